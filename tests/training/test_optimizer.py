"""Parameter groups, float32 masters, and a state that goes on where it was."""

from __future__ import annotations

import pytest
import torch
from random_checkpoint import random_network, small_config

from bt_cli.training.optimizer import MasterWeights, decays, parameter_kind
from bt_cli.training.recipe import Rates


def test_groups_are_those_of_the_published_recipe() -> None:
    network = random_network(small_config())
    weights = MasterWeights(network, torch.float32, Rates())
    weights.set_rates(Rates(cross_multiplier=5.0, head_multiplier=3.0, weight_decay=0.01), 2e-5)
    settings = {}
    for group in weights.optimizer.param_groups:
        for master in group["params"]:
            name = next(n for n, m in weights.weights().items() if m is master)
            settings[name] = (group["lr"], group["weight_decay"])
    assert settings["text_tower.layers.0.feed_forward.up.weight"] == pytest.approx((2e-5, 0.01))
    assert settings["text_tower.layers.0.feed_forward.up.bias"] == pytest.approx((2e-5, 0.0))
    assert settings["vision_tower.blocks.0.norm_1.weight"] == pytest.approx((2e-5, 0.0))
    assert settings["cross_modal.text_layers.0.self_attention.qkv.weight"] == pytest.approx((1e-4, 0.01))
    assert settings["text_bridge.transforms.0.weight"] == pytest.approx((1e-4, 0.01))
    assert settings["itm_head.fc.weight"] == pytest.approx((6e-5, 0.01))
    assert settings["logit_scale"] == pytest.approx((6e-5, 0.0))
    assert settings["mlm_head.bias"] == pytest.approx((6e-5, 0.0))
    assert len(settings) == len(list(network.parameters()))
    assert parameter_kind("itc_cross_head.fc.weight") == "heads"
    assert not decays("mlm_head.bias", torch.zeros(3, 3))


def test_updates_below_the_rounding_of_bfloat16_add_up() -> None:
    network = torch.nn.Linear(4, 4)
    torch.nn.init.ones_(network.weight)
    weights = MasterWeights(network, torch.bfloat16, Rates(learning_rate=1e-4, weight_decay=0.0))
    weights.set_rates(Rates(weight_decay=0.0), 1e-4)
    for _ in range(100):
        network(torch.ones(1, 4, dtype=torch.bfloat16)).sum().backward()
        weights.collect()
        weights.step()
    assert network.weight.dtype == torch.bfloat16
    assert weights.weights()["weight"].mean().item() == pytest.approx(0.95, abs=1e-3)
    assert network.weight.float().mean().item() == pytest.approx(0.95, abs=5e-3)


def test_a_parameter_that_no_loss_reached_stays() -> None:
    network = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "unused": torch.nn.Linear(2, 2)})
    before = network["unused"].weight.detach().clone()
    weights = MasterWeights(network, torch.float32, Rates(learning_rate=0.1, weight_decay=0.5))
    network["used"](torch.ones(1, 2)).sum().backward()
    weights.collect()
    assert len(weights.gradients()) == 2
    weights.step()
    assert torch.equal(network["unused"].weight, before)


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    network = torch.nn.Linear(2, 2)
    before = network.weight.detach().clone()
    weights = MasterWeights(network, torch.float32, Rates(learning_rate=0.1))
    network(torch.tensor([[1.0, torch.inf]])).sum().backward()
    weights.collect()
    assert not torch.isfinite(torch.tensor(weights.step(clip=1.0)))
    assert torch.equal(network.weight, before)
    assert torch.equal(weights.weights()["weight"], before)


def test_clipping_scales_the_whole_gradient() -> None:
    network = torch.nn.Linear(3, 1, bias=False)
    weights = MasterWeights(network, torch.float32, Rates())
    (network(torch.tensor([[3.0, 0.0, 4.0]]))).sum().backward()
    weights.collect()
    sums = weights.gradients()
    assert weights.step(clip=1.0) == pytest.approx(5.0)
    assert sums[0].tolist() == [pytest.approx([0.6, 0.0, 0.8])]
