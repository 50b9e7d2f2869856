"""A network for inference: every block replaced by one with packed weights, in one precision."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from bt_cli.bridgetower.cross_modal import CrossModalEncoder
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.text_tower import TextLayer
from bt_cli.bridgetower.vision_tower import VisionBlock
from bt_cli.packed.cross_modal import PackedCrossModal
from bt_cli.packed.packer import Packer
from bt_cli.packed.slice_pool import SlicePool
from bt_cli.packed.towers import PackedTextLayer, PackedVisionBlock

PAIRS_AT_ONCE = {"cpu": 8, "cuda": 256, "mps": 32}

Kind = TypeVar("Kind", bound=nn.Module)


def pack_network(
    network: BridgeTower, precision: str, device: torch.device, pool: SlicePool | None = None
) -> BridgeTower:
    """Replace the blocks of `network` (in the activations' dtype already) in place, and return it.

    It computes what it computed, to rounding, and no gradients. Float weights go as soon as they are packed, so that
    the peak is about one copy of the network. `pool` runs the pairs of a fusion.
    """
    packer = Packer(precision, device)
    with torch.inference_mode():
        _pack_towers(network, packer)
        _pack_bridges(network, packer)
        if isinstance(network.cross_modal, CrossModalEncoder):
            at_once = PAIRS_AT_ONCE.get(device.type, 8)
            pool = pool or SlicePool(device)
            network.cross_modal = PackedCrossModal(network.cross_modal, packer, pool, pairs_at_once=at_once)
        _keep_heads_exact(network, packer)
        if device.type == "cpu":
            _keep_norms_exact(network)
    return network.eval().requires_grad_(False)


def _pack_towers(network: BridgeTower, packer: Packer) -> None:
    vision, text = network.vision_tower, network.text_tower
    if vision is not None:
        _replace(vision, "patch_embedding", packer.linear(vision.patch_embedding, exact=True))
        for index in range(vision.depth):
            deepest = index == vision.depth - 1
            vision.blocks[index] = PackedVisionBlock(
                _of_kind(VisionBlock, vision.blocks[index]), packer, deepest=deepest
            )
    if text is not None:
        for index, layer in enumerate(text.layers):
            text.layers[index] = PackedTextLayer(_of_kind(TextLayer, layer), packer)


def _pack_bridges(network: BridgeTower, packer: Packer) -> None:
    for bridge in (network.text_bridge, network.image_bridge):
        if bridge is not None:
            bridge.transforms = nn.ModuleList(
                packer.linear(_of_kind(nn.Linear, transform)) for transform in bridge.transforms
            )


def _keep_heads_exact(network: BridgeTower, packer: Packer) -> None:
    for head in (network.itm_head, network.itc_text_head, network.itc_image_head, network.itc_cross_head):
        if head is not None:
            _replace(head, "fc", packer.head(head.fc))
    if network.mlm_head is not None:
        _replace(network.mlm_head, "dense", packer.linear(network.mlm_head.dense, exact=True))
        _replace(network.mlm_head, "decoder", packer.linear(network.mlm_head.decoder, exact=True))


def _replace(owner: nn.Module, name: str, packed: nn.Module) -> None:
    """Put a layer that computes the same in the place of a `Linear`, which its owner only calls."""
    owner.register_module(name, packed)


def _of_kind(kind: type[Kind], module: nn.Module) -> Kind:
    """A member of a `ModuleList`, which has no types of its own."""
    assert isinstance(module, kind)
    return module


def _keep_norms_exact(network: BridgeTower) -> None:
    """LayerNorm of bfloat16 states is faster with float32 weights: torch's kernel computes in float32 either way."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
