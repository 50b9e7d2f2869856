"""Losses against sums worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from bt_cli.bridgetower.losses import itc_loss, itc_pair_loss, itm_loss, mlm_loss


def test_itm_loss_is_the_mean_surprise() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    assert itm_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(-(math.log(0.75) + math.log(0.8)) / 2)


def test_mlm_loss_counts_only_the_marked_words() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = math.log(5.0)
    labels = torch.tensor([[-100, 2, -100]])
    assert mlm_loss(logits, labels).item() == pytest.approx(-math.log(5 / 8))
    assert mlm_loss(logits, torch.full((1, 3), -100)).item() == 0.0


def test_itc_loss_is_the_mean_of_three_directions() -> None:
    eye = torch.eye(2)
    scale = torch.tensor(math.log(2.0))
    right, wrong = math.log(1 + math.exp(-2.0)), math.log(1 + math.exp(2.0))
    assert itc_loss(eye, eye, eye, scale).item() == pytest.approx(right)
    assert itc_loss(eye, eye, eye.flip(0), scale).item() == pytest.approx((right + 2 * wrong) / 3)


def test_pair_loss_shares_the_target_among_captions_of_one_image() -> None:
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scale = torch.tensor(0.0)
    logits = (text @ text.T).log_softmax(dim=1)
    wanted = -(logits[0, :2].mean() + logits[1, :2].mean() + logits[2, 2]) / 3
    assert itc_pair_loss(text, text, scale, torch.tensor([7, 7, 9])).item() == pytest.approx(wanted.item())
    assert itc_pair_loss(text, text, scale).item() > 0
