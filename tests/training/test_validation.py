"""Recall on held-out images: chance for a network that tells nothing apart, a refusal for one that broke."""

from __future__ import annotations

import numpy as np
import pytest

from bt_cli.errors import BadConfig
from bt_cli.metrics.recall import metrics_from_scores
from bt_cli.training.run_state import Position
from bt_cli.training.validation import contrastive_loss, recall


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


def test_among_equals_in_recall_the_smaller_loss_is_kept() -> None:
    own = np.eye(4, dtype=bool)
    weak, strong = (np.where(own, gap, 0.0).astype(np.float32) for gap in (0.1, 0.9))
    assert recall(weak, own) == recall(strong, own)
    losses = [contrastive_loss(scores, own, 10.0) for scores in (weak, strong)]
    assert losses == pytest.approx([np.log(1 + 3 * np.exp(-1)), np.log(1 + 3 * np.exp(-9))], rel=1e-6)
    at = Position(best=1.0, best_loss=losses[0])
    assert at.improves({"recall": 1.0, "loss": losses[1]})
    assert not at.improves({"recall": 1.0, "loss": losses[0]})
    assert not at.improves({"recall": 0.9, "loss": 0.0})
    assert Position(best=0.9, best_loss=0.0).improves({"recall": 1.0, "loss": 5.0})
    assert not Position(best=1.0).improves({"recall": 1.0, "loss": 0.0}), "a state that knows no loss"


def test_captions_of_one_image_share_the_target() -> None:
    own = np.array([[True, False], [True, False], [False, True]])
    assert contrastive_loss(np.zeros((3, 2), np.float32), own, 10.0) == pytest.approx((np.log(2) + np.log(3)) / 2)
