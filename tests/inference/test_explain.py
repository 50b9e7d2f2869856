"""Where the network looked: shapes and sums, and that it is at the thing that a word names."""

from __future__ import annotations

import numpy as np
import pytest

import bt_cli
from bt_cli.errors import NoMask

GREEN_DRAGON = "sample_data/images/scene-0163.jpg"
"""A unicorn in the upper half, a green dragon in the lower."""


@pytest.fixture(scope="module")
def model():
    with bt_cli.load("tiny", dtype="float32") as loaded:
        yield loaded


@pytest.fixture
def image():
    from pathlib import Path

    return str(Path(__file__).resolve().parents[2] / GREEN_DRAGON)


def test_each_word_has_a_map_and_all_together_are_one(model, image):
    words, maps = model.explain(image, "a green dragon below a unicorn")
    assert words == ["a", "green", "dragon", "below", "a", "unicorn"]
    assert maps.shape == (6, 8, 8)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.sum() == pytest.approx(1, abs=1e-5)
    halves = maps[:, :4].sum((1, 2)) / maps.sum((1, 2))
    assert halves[5] > 0.9  # the unicorn is in the upper half
    assert halves[2] < 0.4  # the dragon in the lower


def test_masks_are_looked_for_where_their_words_are(model, image):
    words, maps = model.explain_masks(image, "a green <mask> below a <mask>")
    assert words == ["dragon", "unicorn"]
    halves = maps[:, :4].sum((1, 2)) / maps.sum((1, 2))
    assert halves[0] < 0.3
    assert halves[1] > 0.7


def test_the_same_answer_twice_and_after_a_close(model, image):
    first = model.explain(image, "a dragon").maps
    model.close()
    np.testing.assert_array_equal(first, model.explain(image, "a dragon").maps)


def test_a_text_without_words_has_no_maps(model, image):
    words, maps = model.explain(image, "")
    assert words == []
    assert maps.shape == (0, 8, 8)


def test_a_text_without_masks_is_refused(model, image):
    with pytest.raises(NoMask, match="no <mask>"):
        model.explain_masks(image, "a dragon")
