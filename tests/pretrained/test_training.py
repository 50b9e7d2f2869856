"""What people do to models: a user's own optimiser, gradient checkpointing, adapters."""

from __future__ import annotations

import pytest
import torch
from port_models import CLASSES, batch, ours, port

import bt_cli

LABELS = {"labels": torch.tensor([1, 0, 1])}


def test_a_users_own_loop_learns(checkpoint):
    model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(8):
        loss = model(**batch(), **LABELS).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", CLASSES)
def test_recomputed_activations_give_the_same_gradients(name, checkpoint):
    model = ours(name).from_pretrained(checkpoint).train()
    gradients = []
    for on in (False, True):
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        assert model.is_gradient_checkpointing is on
        torch.manual_seed(5)  # dropout
        model.zero_grad()
        model(**batch())[0].square().mean().backward()
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(ValueError, match="use_reentrant=False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_trains_and_the_port_loads_it(checkpointing, checkpoint, tmp_path):
    peft = pytest.importorskip("peft")
    model = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)
    before = model(**batch()).logits.detach()
    if checkpointing:
        model.gradient_checkpointing_enable()
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query", "value"], r=4, lora_alpha=8))
    targets = [name for name, _ in adapted.named_modules() if name.endswith(("query", "value"))]
    assert len(targets) == 2 * (3 + 2 * 2 * 2)
    adapted.train()
    optimiser = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=0.05)
    for _ in range(2):
        adapted(**batch(), **LABELS).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    adapted.eval()
    after = adapted(**batch()).logits.detach()
    assert float((after - before).abs().max()) > 1e-3
    adapted.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(
        port("BridgeTowerForImageAndTextRetrieval", checkpoint), tmp_path / "adapter"
    )
    assert float((theirs.eval()(**batch()).logits - after).abs().max().detach()) < 1e-4
    fresh = bt_cli.BridgeTowerForImageAndTextRetrieval.from_pretrained(checkpoint)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    assert float((again(**batch()).logits - after).abs().max().detach()) < 1e-5
    merged = again.merge_and_unload()
    assert merged.uses_fast_network()
    assert float((merged(**batch()).logits - after).abs().max().detach()) < 1e-4


def test_an_adapter_on_every_linear_layer(checkpoint):
    peft = pytest.importorskip("peft")
    model = bt_cli.BridgeTowerForMaskedLM.from_pretrained(checkpoint)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False))
    adapted(**batch()).logits.sum().backward()
    unused = ("text_model.pooler", "pooler.dense")
    idle = [
        name
        for name, each in adapted.named_parameters()
        if "lora_A" in name
        and not bool(each.grad is not None and each.grad.any())
        and not any(u in name for u in unused)
    ]
    # Of the last cross-modal layer only the text stream reaches the words.
    assert all("cross_modal_image_layers.1" in name for name in idle), idle
