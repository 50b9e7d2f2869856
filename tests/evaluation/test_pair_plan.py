"""Which pairs are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.evaluation import pair_plan
from bt_cli.evaluation.pair_plan import PairPlan, best_positions


@given(st.lists(st.sampled_from([-100.0, 0.0, 0.5, 2.0]), min_size=1, max_size=20), st.integers(1, 25))
def test_the_best_positions_are_those_of_a_full_sort(values, k):
    scores = np.array(values, np.float32)
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k]
    assert best_positions(scores, k).tolist() == expected


def test_both_directions_choose():
    # Captions 0 and 1 are best for every image; caption 3 is nobody's, but its own best image is 2.
    scores = np.array([[9, 8, 1, 0], [9, 8, 0, 0], [9, 8, 2, 1]], np.float32)
    plan = PairPlan.candidates(3, 4, lambda a, b: scores[a:b], lambda a, b: scores.T[a:b], 1)
    pairs = list(zip(plan.images_of(0, len(plan)).tolist(), plan.captions_of(0, len(plan)).tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 2), (2, 3)]
    assert plan.span(1, 3) == (2, 6)


def test_every_pair_in_order_without_a_table(monkeypatch):
    plan = PairPlan.exhaustive(3, 4)
    assert (len(plan), plan.partners, plan.is_exhaustive) == (12, None, True)
    assert plan.captions_of(3, 6).tolist() == [3, 0, 1]
    assert plan.images_of(3, 6).tolist() == [0, 1, 1]


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_do_not_change_the_plan(monkeypatch, block):
    scores = np.random.default_rng(0).standard_normal((12, 20)).astype(np.float32)
    whole = PairPlan.candidates(12, 20, lambda a, b: scores[a:b], lambda a, b: scores.T[a:b], 4)
    monkeypatch.setattr(pair_plan, "BLOCK", block)
    plan = PairPlan.candidates(12, 20, lambda a, b: scores[a:b], lambda a, b: scores.T[a:b], 4)
    assert plan.partners.tolist() == whole.partners.tolist()
    assert plan.fingerprint == whole.fingerprint


def test_the_fingerprint_tells_plans_apart():
    scores = np.random.default_rng(0).standard_normal((12, 20)).astype(np.float32)
    plans = [PairPlan.candidates(12, 20, lambda a, b: scores[a:b], lambda a, b: scores.T[a:b], k) for k in (3, 4)] + [
        PairPlan.exhaustive(12, 20),
        PairPlan.exhaustive(20, 12),
    ]
    assert len({plan.fingerprint for plan in plans}) == 4
