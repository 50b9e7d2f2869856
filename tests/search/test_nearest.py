"""The first stage: order, ties, prefixes, filters."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeCaptions, FakeIndex, embed
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.search.nearest import DEPTH, matching_images, nearest, search_captions, search_images


def tied_index(scores: list[float]) -> tuple[FakeIndex, np.ndarray]:
    """An index whose cosines with the returned query are exactly `scores`."""
    vectors = np.zeros((len(scores), 2), np.float32)
    vectors[:, 0] = scores
    return FakeIndex(vectors), np.array([1, 0], np.float32)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=300), st.integers(1, 320), st.data())
def test_order_is_by_score_then_id_and_small_k_is_a_prefix(scores: list[float], k: int, data) -> None:
    index, query = tied_index(scores)
    subset = data.draw(st.none() | st.sets(st.integers(0, len(scores) - 1)))
    ids = None if subset is None else np.array(sorted(subset), np.int64)
    floor = data.draw(st.sampled_from([None, 0.5]))
    pool = range(len(scores)) if subset is None else subset
    expected = sorted((id for id in pool if floor is None or scores[id] >= floor), key=lambda id: (-scores[id], id))
    found_scores, found = nearest(index, query, k, ids=ids, min_score=floor)
    assert found.tolist() == expected[:k]
    assert found_scores.tolist() == [scores[id] for id in expected[:k]]


def test_a_tie_across_the_cut_is_asked_for_until_it_ends() -> None:
    index, query = tied_index([0.5] * 3000 + [0.1] * 3000)
    assert nearest(index, query, 3)[1].tolist() == [0, 1, 2]
    assert index.depths == [DEPTH, DEPTH * 4, DEPTH * 16, 6000]


def test_small_answers_ask_the_index_alike() -> None:
    """What an approximate index finds depends on how much it is asked for."""
    index, query = tied_index(np.linspace(0, 1, 1000).tolist())
    for k in (1, 5, 15, 100):
        nearest(index, query, k)
    assert set(index.depths) == {DEPTH}


def test_an_approximate_index_that_finds_fewer() -> None:
    class Sparse(FakeIndex):
        def search(self, vectors, k, *, ids=None):
            scores, found = super().search(vectors, k, ids=ids)
            scores[:, 2:], found[:, 2:] = -np.inf, -1
            return scores, found

    index = Sparse(np.eye(4, dtype=np.float32))
    scores, ids = nearest(index, np.array([0.1, 0.4, 0.3, 0.2], np.float32), 4)
    assert ids.tolist() == [1, 2]
    assert scores.tolist() == pytest.approx([0.4, 0.3])


def test_globs_filter_before_the_best_are_taken() -> None:
    index = FakeIndex(np.eye(4, dtype=np.float32), ["a/1.jpg", "a/2.png", "b/1.jpg", "b/2.png"])
    query = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
    assert [hit.path for hit in search_images(index, query, 2, ids=matching_images(index, ["*.png"]))] == [
        "a/2.png",
        "b/2.png",
    ]
    assert [
        hit.path for hit in search_images(index, query, 9, ids=matching_images(index, ["a/*", "b/*", "!*.png"]))
    ] == [
        "a/1.jpg",
        "b/1.jpg",
    ]
    assert [hit.path for hit in search_images(index, query, 1, ids=matching_images(index, ["!a/*"]))] == ["b/1.jpg"]
    assert search_images(index, query, 3, ids=matching_images(index, ["nothing*"])) == []
    assert matching_images(index, []) is None


def test_hits_carry_rank_id_path_and_cosine() -> None:
    index = FakeIndex(np.eye(3, dtype=np.float32))
    first, second = search_images(index, np.array([0.1, 0.3, 0.2], np.float32), 2)
    assert first.record() == {
        "rank": 1,
        "id": 1,
        "path": "1.jpg",
        "score": 0.3,
        "itc": 0.3,
        "itm_logit": None,
        "itm_prob": None,
    }
    assert (second.rank, second.id) == (2, 2)


def test_captions_come_with_the_image_they_belong_to() -> None:
    images = FakeIndex(np.eye(2, dtype=np.float32), ["a.jpg", "b.jpg"])
    captions = FakeCaptions(["cat", "dog", "cat dog", "cat"], [1, 0, 1, -1])
    found = search_captions(captions, images, embed("cat"), 3)
    assert [(hit.id, hit.caption, hit.path) for hit in found] == [
        (0, "cat", "b.jpg"),
        (3, "cat", None),
        (2, "cat dog", "b.jpg"),
    ]
    assert list(found[0].record()) == ["rank", "id", "path", "caption", "score", "itc", "itm_logit", "itm_prob"]
    assert [
        hit.id for hit in search_captions(captions, images, embed("cat"), 9, ids=matching_images(images, ["b*"]))
    ] == [0, 2]


def test_an_empty_index_has_no_answers() -> None:
    assert search_images(FakeIndex(np.empty((0, 3))), np.ones(3, np.float32), 5) == []
