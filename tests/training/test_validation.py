"""Recall on held-out images: chance for a network that tells nothing apart, a refusal for one that broke."""

from __future__ import annotations

import numpy as np
import pytest

from bt_cli.errors import BadConfig
from bt_cli.metrics.recall import metrics_from_scores
from bt_cli.training.validation import recall


def test_equal_scores_are_no_success() -> None:
    metrics = recall(np.zeros((20, 20), np.float32), np.eye(20, dtype=bool))
    assert metrics == pytest.approx(
        {"ir@1": 0.05, "ir@5": 0.25, "ir@10": 0.5, "tr@1": 0.05, "tr@5": 0.25, "tr@10": 0.5, "recall": 0.8 / 3}
    )


def test_recall_is_that_of_bt_eval() -> None:
    owner = [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    similarity = np.random.default_rng(5).integers(0, 4, (14, 12)).astype(np.float32)
    metrics = recall(similarity, np.array(owner)[:, None] == np.arange(12)[None, :])
    expected = metrics_from_scores(similarity.T, owner)
    assert all(metrics[name] == pytest.approx(expected[name]) for name in metrics if name != "recall")


def test_a_caption_that_is_true_of_several_images_is_found_by_the_best_of_them() -> None:
    similarity = np.array([[0.1, 0.2, 0.3], [0.9, 0.5, 0.1]], np.float32)
    own = np.array([[True, True, False], [False, False, True]])
    metrics = recall(similarity, own)
    assert (metrics["ir@1"], metrics["ir@5"], metrics["tr@1"]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_a_failure(value: float) -> None:
    similarity = np.zeros((3, 3), np.float32)
    similarity[1, 2] = value
    with pytest.raises(BadConfig, match="a score is not a finite number; a lower learning rate"):
        recall(similarity, np.eye(3, dtype=bool))
