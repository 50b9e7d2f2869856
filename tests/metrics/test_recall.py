"""Metrics against examples worked by hand and against a literal reading of their definitions."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bt_cli.metrics.recall import (
    best_own_ranks,
    mean_reciprocal_rank,
    median_rank,
    metrics_from_scores,
    metrics_of,
    own_captions,
    recall_at,
    rsum,
)


def test_metrics_of_one_ranking_worked_by_hand():
    ranks = [1, 3, 6, 20]
    assert recall_at(ranks, 1) == 1 / 4
    assert recall_at(ranks, 5) == 2 / 4
    assert recall_at(ranks, 10) == 3 / 4
    assert median_rank(ranks) == 4.5
    assert median_rank([2, 9, 4]) == 4
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 1 / 6 + 1 / 20) / 4, abs=1e-15)
    assert rsum(ranks, [1, 2]) == pytest.approx(1 / 4 + 2 / 4 + 3 / 4 + 1 / 2 + 1 + 1, abs=1e-15)


def test_two_images_three_captions_worked_by_hand():
    # Image 0 has captions 0 and 2. Its best own caption, 2, lies behind caption 1: rank 2. Image 1: caption 1 is first.
    # Caption 0 finds image 1 first; caption 1 finds image 0 first; caption 2 finds its own image 0.
    scores = [[0.1, 0.9, 0.8], [0.3, 0.7, 0.2]]
    assert metrics_from_scores(scores, [0, 1, 0]) == {
        "tr@1": 0.5,
        "tr@5": 1.0,
        "tr@10": 1.0,
        "ir@1": pytest.approx(1 / 3),
        "ir@5": 1.0,
        "ir@10": 1.0,
        "rsum": pytest.approx(0.5 + 1 / 3 + 4),
        "tr_median_rank": 1.5,
        "ir_median_rank": 2.0,
        "tr_mrr": 0.75,
        "ir_mrr": pytest.approx((0.5 + 0.5 + 1) / 3),
    }


def test_equal_scores_rank_by_position():
    scores = np.zeros((1, 5))
    assert best_own_ranks(lambda a, b: scores[a:b], {0: [3]}).tolist() == [4]
    assert best_own_ranks(lambda a, b: scores[a:b], {0: [4, 1]}).tolist() == [2]


def test_a_model_that_says_the_same_of_every_pair_gets_chance():
    images = 200
    metrics = metrics_from_scores(np.full((images, images), 0.25), range(images))
    assert (metrics["tr@1"], metrics["tr@10"], metrics["ir@1"], metrics["ir@10"]) == (
        1 / 200,
        10 / 200,
        1 / 200,
        10 / 200,
    )


def test_images_without_captions_are_only_distractors():
    scores = np.array([[0.9], [0.1], [0.5]])
    metrics = metrics_from_scores(scores, [2])
    assert metrics["ir_median_rank"] == 2
    assert metrics["tr_median_rank"] == 1
    assert own_captions([2, 0, 2]) == {2: [0, 2], 0: [1]}


def test_nan_and_nothing_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        metrics_from_scores([[math.nan, 1.0]], [0, 0])
    with pytest.raises(ValueError, match="nothing to average"):
        metrics_of([], [])
    with pytest.raises(ValueError, match="count from 1"):
        recall_at([0, 1], 1)


@st.composite
def matrices_with_ties(draw):
    images = draw(st.integers(1, 7))
    owner = draw(st.lists(st.integers(0, images - 1), min_size=1, max_size=14))
    shape = (images, len(owner))
    scores = draw(arrays(np.float32, shape, elements=st.sampled_from([-100.0, -1.0, 0.0, 0.25, 0.5, 3.0])))
    return scores, owner


def literal_metrics(scores, owner):
    """Sort every row in full, look where the own items stand, and follow the definitions word by word."""
    images, captions = scores.shape
    tr, ir = [], []
    for i in range(images):
        own = [c for c in range(captions) if owner[c] == i]
        order = sorted(range(captions), key=lambda c: (-scores[i, c], c))
        if own:
            tr.append(min(order.index(c) + 1 for c in own))
    for c in range(captions):
        order = sorted(range(images), key=lambda i: (-scores[i, c], i))
        ir.append(order.index(owner[c]) + 1)
    metrics = {}
    for name, ranks in (("tr", tr), ("ir", ir)):
        for k in (1, 5, 10):
            metrics[f"{name}@{k}"] = sum(rank <= k for rank in ranks) / len(ranks)
        metrics[f"{name}_median_rank"] = statistics.median(ranks)
        metrics[f"{name}_mrr"] = sum(1 / rank for rank in ranks) / len(ranks)
    metrics["rsum"] = sum(value for name, value in metrics.items() if "@" in name)
    return metrics


@settings(max_examples=300, deadline=None)
@given(matrices_with_ties())
def test_every_metric_equals_its_literal_definition(case):
    scores, owner = case
    assert metrics_from_scores(scores, owner) == pytest.approx(literal_metrics(scores, owner), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(matrices_with_ties(), st.integers(1, 4))
def test_the_size_of_the_blocks_changes_nothing(case, block):
    scores, owner = case
    captions = own_captions(owner)
    asked = []

    def rows(start, stop):
        asked.append(stop - start)
        return scores[start:stop]

    whole = best_own_ranks(lambda a, b: scores[a:b], captions)
    assert best_own_ranks(rows, captions, block=block).tolist() == whole.tolist()
    assert max(asked) <= block
