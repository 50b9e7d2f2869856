"""Recall on held-out pictures: chance for a network that tells nothing apart, a refusal for one that broke."""

from __future__ import annotations

import pytest
import torch

from bt_cli.errors import BadConfig
from bt_cli.evaluation.recall import metrics_from_scores
from bt_cli.training.validation import recall


def test_equal_scores_are_no_success() -> None:
    own = torch.eye(20, dtype=torch.bool)
    metrics = recall(torch.zeros(20, 20), own)
    assert metrics == pytest.approx(
        {"ir@1": 0.05, "ir@5": 0.25, "ir@10": 0.5, "tr@1": 0.05, "tr@5": 0.25, "tr@10": 0.5, "recall": 0.8 / 3}
    )


def test_recall_is_that_of_bt_eval() -> None:
    owner = [0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    similarity = torch.randint(0, 4, (14, 12), generator=torch.Generator().manual_seed(5)).float()
    own = torch.tensor(owner)[:, None] == torch.arange(12)[None, :]
    metrics = recall(similarity, own)
    expected = metrics_from_scores(similarity.T.numpy(), owner)
    assert all(metrics[name] == pytest.approx(expected[name]) for name in metrics if name != "recall")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_score_that_is_no_number_is_a_failure(value: float) -> None:
    similarity = torch.zeros(3, 3)
    similarity[1, 2] = value
    with pytest.raises(BadConfig, match="a score is not a finite number; a lower learning rate"):
        recall(similarity, torch.eye(3, dtype=torch.bool))
