"""The second stage: order, ties, weights, unreadable images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel, match

from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.search.candidates import Candidate
from bt_cli.search.query import Query, Term
from bt_cli.search.rerank import order_by_match, rerank_captions, rerank_images, reranked_texts


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = {"mirror": "dog left of cat", "right": "cat left of dog", "other": "red car", "broken": "broken"}
    for name, text in shown.items():
        (tmp_path / name).write_text(text)


@pytest.mark.usefixtures("pictures")
def test_the_order_is_the_match_logits() -> None:
    candidates = [Candidate("mirror", 3, 0.9), Candidate("other", 1, 0.1), Candidate("right", 8, 0.8)]
    found = rerank_images(FakeModel(), candidates, [Term("cat left of dog")])
    assert [(hit.rank, hit.path, hit.id, hit.itc) for hit in found.hits] == [
        (1, "right", 8, 0.8),
        (2, "mirror", 3, 0.9),
        (3, "other", 1, 0.1),
    ]
    for hit in found.hits:
        logit = match(Path(hit.path).read_text(), "cat left of dog")[1]
        assert hit.score == hit.itm_logit == pytest.approx(logit, abs=1e-6)
        assert hit.itm_prob == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)
    assert found.skipped == []


@pytest.mark.usefixtures("pictures")
def test_ties_go_by_id_then_by_the_order_given() -> None:
    candidates = [Candidate("right"), Candidate("right", 5), Candidate("./right"), Candidate("right", 2)]
    found = rerank_images(FakeModel(), candidates, [Term("cat")])
    assert [(hit.path, hit.id) for hit in found.hits] == [
        ("right", 2),
        ("right", 5),
        ("right", None),
        ("./right", None),
    ]


@pytest.mark.usefixtures("pictures")
def test_an_unreadable_image_is_named_and_left_out() -> None:
    candidates = [Candidate("broken", 0), Candidate("right", 1), Candidate("gone", 2)]
    found = rerank_images(FakeModel(), candidates, [Term("cat")])
    assert [hit.path for hit in found.hits] == ["right"]
    assert found.skipped == ["broken: not an image", "gone: No such file or directory"]
    with pytest.raises(UnreadableImage, match="broken: not an image"):
        rerank_images(FakeModel(), candidates, [Term("cat")], strict=True)


@pytest.mark.usefixtures("pictures")
def test_no_readable_image_at_all_is_an_error() -> None:
    with pytest.raises(UnreadableImage, match="none of the 2 images can be read; first: broken: not an image"):
        rerank_images(FakeModel(), [Candidate("broken"), Candidate("gone")], [Term("cat")])


def test_no_candidates_no_hits() -> None:
    model = FakeModel()
    assert rerank_images(model, [], [Term("cat")]).hits == []
    assert rerank_captions(model, [], "x").hits == []
    assert model.calls == []


@pytest.mark.usefixtures("pictures")
def test_weighted_texts_order_by_the_weighted_mean() -> None:
    candidates = [Candidate("right", 0), Candidate("other", 1)]
    found = rerank_images(FakeModel(), candidates, [Term("cat"), Term("car", 2.0), Term("dog", -1.0)])
    scores = {"right": (4 - 2 * 4 - 4) / 4, "other": (-4 + 2 * 4 + 4) / 4}
    assert {hit.path: hit.score for hit in found.hits} == pytest.approx(scores)
    assert [hit.path for hit in found.hits] == ["other", "right"]
    assert found.hits[0].itm_logit == -4


@pytest.mark.usefixtures("pictures")
def test_captions_are_read_with_one_image() -> None:
    captions = [Candidate(None, 0, 0.9, "dog left of cat"), Candidate("right", 1, 0.9, "cat left of dog")]
    model = FakeModel()
    found = rerank_captions(model, captions, "right")
    assert [hit.caption for hit in found.hits] == ["cat left of dog", "dog left of cat"]
    assert model.calls == [("itm", 1, 2, None)]
    with pytest.raises(UnreadableImage, match="gone"):
        rerank_captions(model, captions, "gone")


def test_what_can_be_reranked() -> None:
    assert reranked_texts(Query.build("cat", add=["snow"]), to_captions=False) == (Term("cat"), Term("snow"))
    assert reranked_texts(Query.build(image="x"), to_captions=True) == ()
    for query, to_captions in (
        (Query.build(image="x"), False),
        (Query.build("cat"), True),
        (Query.build(image="x", subtract=["night"]), False),
    ):
        with pytest.raises(Misuse, match="rerank"):
            reranked_texts(query, to_captions=to_captions)


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[[500.0, -500.0]], [[-500.0, 500.0]]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        best, worst = order_by_match([Candidate("a"), Candidate("b")], logits, [1.0])
    assert (best.path, best.itm_prob, worst.itm_prob) == ("b", 1.0, 0.0)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(BtError, match="b is no number; --dtype float32"):
        order_by_match([Candidate("a"), Candidate("b")], np.array([[[0.0, 1.0]], [[0.0, np.nan]]]), [1.0])
