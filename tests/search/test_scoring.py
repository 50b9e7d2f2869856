"""Pairs: each image and text once, in the order given, nothing lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeCheckpoint, FakeModel

from bt_cli.captions.captions import read_captions
from bt_cli.errors import BtError, MissingHead, Misuse, UnreadableImage
from bt_cli.search.scoring import Pair, every_pair, pairs_of, score


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog", "broken"):
        Path(name).write_text(name)


def test_every_pair_goes_image_by_image() -> None:
    assert every_pair(["a", "b"], ["x", "y"]) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_repeated_pairs_keep_their_places_and_cost_nothing() -> None:
    model = FakeModel()
    found = score(model, [("dog", "cat"), ("cat", "cat"), ("dog", "dog"), ("dog", "cat")])
    assert [(pair.image, pair.text, pair.itm_logit) for pair in found.pairs] == [
        ("dog", "cat", -4.0),
        ("cat", "cat", 4.0),
        ("dog", "dog", 4.0),
        ("dog", "cat", -4.0),
    ]
    assert [pair.itc == pytest.approx(1.0) for pair in found.pairs] == [False, True, True, False]
    assert model.calls == [("itm", 2, 2, 4)]
    assert found.images == 2


def test_unreadable_images_are_named_once() -> None:
    found = score(FakeModel(), [("broken", "x"), ("cat", "cat"), ("broken", "y")])
    assert [pair.image for pair in found.pairs] == ["cat"]
    assert (found.skipped, found.images) == (["broken: not an image"], 1)
    with pytest.raises(UnreadableImage, match="broken: not an image"):
        score(FakeModel(), [("broken", "x"), ("cat", "cat")], strict=True)
    with pytest.raises(UnreadableImage, match="none of the 2 images can be read; first: broken"):
        score(FakeModel(), [("broken", "x"), ("gone", "x")])


def test_a_checkpoint_without_itm_is_refused() -> None:
    with pytest.raises(MissingHead, match="ITM"):
        score(FakeModel(FakeCheckpoint("m", {"itc"})), [("cat", "cat")])


def test_a_score_that_is_no_number_is_refused() -> None:
    class Broken(FakeModel):
        def compare(self, *arguments, **named):
            return np.full((1, 2), np.nan, np.float32), None

    with pytest.raises(BtError, match="the match score of cat is no number"):
        score(Broken(), [("cat", "cat")])


def test_records_hold_itc_only_where_there_is_one() -> None:
    assert Pair("a", "x", 0.1234567891, 0.5).record() == {
        "image": "a",
        "text": "x",
        "itm_logit": 0.1234568,
        "itm_prob": 0.5,
    }
    assert Pair("a", "x", 1.0, 0.5, -0.25).record()["itc"] == -0.25


def test_pairs_are_read_from_here_or_from_beside_the_file(tmp_path: Path) -> None:
    Path("lists").mkdir()
    for name in ("lists/bird.png", "lists/cat.png", "cat.png"):
        Path(name).write_text(name)
    Path("lists/p.jsonl").write_text('{"image": "bird.png", "text": "a"}\n{"image": "cat.png", "text": "b"}\n')
    assert pairs_of(read_captions("lists/p.jsonl")) == [(os.path.join("lists", "bird.png"), "a"), ("cat.png", "b")]
    assert pairs_of(read_captions("lists/p.jsonl", images="lists")) == [("lists/bird.png", "a"), ("lists/cat.png", "b")]
    Path("plain").write_text("only words\n")
    with pytest.raises(Misuse, match="plain:1: names no image"):
        pairs_of(read_captions("plain"))
