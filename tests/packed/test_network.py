"""A packed network against the plain one that it was made of."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from random_checkpoint import random_network, small_config
from torch import Tensor

import bt_cli
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.packed.network import pack_network

CPU = torch.device("cpu")
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_hidden_layers": 3},
    "one layer": {"num_hidden_layers": 1},
    "scaled add": {"link_tower_type": "scaled_add"},
    "interpolate": {"link_tower_type": "interpolate"},
    "shared links": {"share_link_tower_layers": True, "num_hidden_layers": 3},
    "own transforms": {"share_cross_modal_transformer_layers": False},
    "tower itc": {"itc_image_path": "tower"},
    "wide vision": {"vision_config": {"hidden_size": 128}},
    "remove last": {"vision_config": {"remove_last_layer": True}},
    "relu text": {"text_config": {"hidden_act": "relu"}},
    "new gelu": {"text_config": {"hidden_act": "gelu_new"}},
}
FIELDS = [
    "text_features",
    "image_features",
    "pooler_output",
    "itm_logits",
    "mlm_logits",
    "text_embeds",
    "image_embeds",
    "cross_embeds",
]


def sample(length: int, padded: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    pixels = torch.randn(3, 3, 64, 64, generator=generator)
    ids = torch.randint(4, 250, (3, length), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[1, length // 2 :] = 0
        ids[1, length // 2 :] = 1
    return pixels, ids, mask


@pytest.mark.parametrize("mask", [[1, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]])
def test_a_mask_with_holes_or_at_the_right_cuts_nothing_off(mask: list[int]) -> None:
    network = random_network(small_config())
    packed = pack_network(copy.deepcopy(network), "float32", CPU)
    pixels, ids, _ = sample(6, False)
    masks = torch.tensor([mask, [1, 1, 1, 1, 0, 0], mask])
    with torch.inference_mode():
        wanted = network.fuse(network.encode_images(pixels), network.encode_texts(ids, masks)).pooler_output
        states = packed.encode_images(pixels), packed.encode_texts(ids, masks)
        made = packed.fuse(*states, wanted="pooled").pooler_output
    assert torch.allclose(made, wanted, atol=2e-5)


def worst(made: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """Largest difference, padded text rows left out."""
    difference = (made.float() - wanted.float()).abs()
    if difference.ndim == 3 and difference.shape[1] == mask.shape[1]:
        difference = difference * mask[:, :, None]
    return float(difference.max())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("length", "padded"), [(3, False), (7, True), (20, True)])
@torch.inference_mode()
def test_float32_packed_equals_plain(variant: str, length: int, padded: bool) -> None:
    network = random_network(small_config(**VARIANTS[variant]))
    packed = pack_network(copy.deepcopy(network), "float32", CPU)
    pixels, ids, mask = sample(length, padded)
    wanted, made = network(pixels, ids, mask), packed(pixels, ids, mask)
    for field in FIELDS:
        assert worst(getattr(made, field), getattr(wanted, field), mask) < 3e-5, field


@pytest.mark.parametrize("variant", ["plain", "deep", "one layer"])
@pytest.mark.parametrize(("length", "padded"), [(3, False), (7, True), (20, True)])
@torch.inference_mode()
def test_short_cuts_equal_the_whole(variant: str, length: int, padded: bool) -> None:
    """Class rows alone, text alone, embeddings alone and attention maps: the same numbers as from everything."""
    network = random_network(small_config(**VARIANTS[variant]))
    packed = pack_network(copy.deepcopy(network), "float32", CPU)
    pixels, ids, mask = sample(length, padded)
    wanted = network(pixels, ids, mask, attentions=True)
    images, texts = packed.encode_images(pixels), packed.encode_texts(ids, mask)
    pooled = packed.fuse(images, texts, wanted="pooled")
    assert pooled.text_features is None
    assert worst(pooled.pooler_output, wanted.pooler_output, mask) < 3e-5
    text = packed.fuse(images, texts, wanted="text")
    assert worst(text.text_features, wanted.text_features, mask) < 3e-5
    assert worst(packed.encode_images(pixels, bridges=False).embeds, wanted.image_embeds, mask) < 1e-5
    assert worst(packed.encode_texts(ids, mask, bridges=False).embeds, wanted.text_embeds, mask) < 1e-5
    maps = packed.fuse(images, texts, attentions=True)
    assert worst(maps.pooler_output, wanted.pooler_output, mask) < 3e-5
    for made, plain in zip(maps.attentions, wanted.attentions, strict=True):
        for name in ("text_self", "image_self", "text_to_image", "image_to_text"):
            real = mask.bool()[:, None, :, None] if name.startswith("text") else torch.ones(1, dtype=torch.bool)
            difference = (getattr(made, name) - getattr(plain, name)).abs() * real
            assert float(difference.max()) < 1e-5, name


@torch.inference_mode()
def test_pairs_share_their_items() -> None:
    network = random_network(small_config())
    packed = pack_network(copy.deepcopy(network), "float32", CPU)
    packed.cross_modal.pairs_at_once = 4
    pixels, ids, mask = sample(9, True)
    images, texts = packed.encode_images(pixels), packed.encode_texts(ids, mask)
    pairs = torch.arange(3).repeat_interleave(3), torch.arange(3).repeat(3)
    made = packed.fuse(images, texts, pairs, wanted="pooled").pooler_output
    wanted = network(pixels[pairs[0]], ids[pairs[1]], mask[pairs[1]]).pooler_output
    assert float((made - wanted).abs().max()) < 3e-5


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("int8", torch.bfloat16)])
@pytest.mark.parametrize(("length", "padded"), [(3, False), (20, True)])
@torch.inference_mode()
def test_low_precision_stays_near(precision: str, dtype: torch.dtype, length: int, padded: bool) -> None:
    network = random_network(small_config())
    packed = pack_network(copy.deepcopy(network).to(dtype), precision, CPU)
    pixels, ids, mask = sample(length, padded)
    wanted, made = network(pixels, ids, mask), packed(pixels, ids, mask)
    for field in ("text_embeds", "image_embeds"):
        assert getattr(made, field).dtype == torch.float32
        assert float((getattr(made, field) * getattr(wanted, field)).sum(1).min()) > 0.998
    assert made.itm_logits.dtype == torch.float32
    assert float((made.itm_logits - wanted.itm_logits).abs().max()) < 0.2 * float(wanted.itm_logits.abs().max())


@torch.inference_mode()
def test_towers_alone_are_packed_too() -> None:
    for towers in ({"text"}, {"vision"}):
        whole = random_network(small_config(), heads=("itc",))
        alone = BridgeTower(whole.config, heads={"itc"}, towers=towers)
        alone.load_state_dict({name: whole.state_dict()[name] for name in alone.state_dict()})
        packed = pack_network(alone.eval(), "float32", CPU)
        pixels, ids, mask = sample(7, True)
        if towers == {"text"}:
            made, wanted = packed.encode_texts(ids, mask).embeds, whole.encode_texts(ids, mask).embeds
        else:
            made, wanted = packed.encode_images(pixels).embeds, whole.encode_images(pixels).embeds
        assert float((made - wanted).abs().max()) < 1e-5


@torch.inference_mode()
def test_planted_fault_is_seen() -> None:
    network = random_network(small_config(num_hidden_layers=3))
    packed = pack_network(copy.deepcopy(network), "float32", CPU)
    links = packed.cross_modal.text_links
    links[0], links[1] = links[1], links[0]
    pixels, ids, mask = sample(7, True)
    wanted, made = network(pixels, ids, mask), packed(pixels, ids, mask)
    assert worst(made.text_features, wanted.text_features, mask) > 1e-2


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_processors_without_avx512_compute_in_every_precision(precision: str) -> None:
    """oneDNN packs no bfloat16 weights there. torch and oneDNN are held to AVX2, as on such a processor."""
    code = (
        "import bt_cli\n"
        f"made = bt_cli.load('tiny', device='cpu', dtype={precision!r}).encode_texts(['a cat above a dog'])\n"
        "print(' '.join(map(str, made[0])))"
    )
    held = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, **held}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    exact = bt_cli.load("tiny", device="cpu", dtype="float32").encode_texts(["a cat above a dog"])[0]
    assert np.array(ran.stdout.split(), np.float32) @ exact > (0.999 if precision != "int8" else 0.99)
