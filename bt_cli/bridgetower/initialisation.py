"""New parameters for a network that is trained from nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.vision_tower import VisionBlock, VisionTower


def initialise(network: BridgeTower, seed: int = 0, *, wave_positions: float = 0.0) -> None:
    """Draw every parameter anew: CLIP's scales for the vision tower, 0.02 elsewhere, biases 0, norms 1.

    `wave_positions` > 0 starts the patch positions as two-dimensional sine and cosine waves of that amplitude, which
    small vision towers learn positions from much sooner than from noise.
    """
    config = network.config
    generator = torch.Generator().manual_seed(seed)
    std = 0.02 * config.initializer_factor
    with torch.no_grad():
        for module in network.modules():
            _draw(module, std, generator)
        for bridge in (network.text_bridge, network.image_bridge):
            if bridge is not None:
                bridge.token_type.normal_(0.0, std, generator=generator)
        if network.vision_tower is not None:
            _draw_vision_tower(network.vision_tower, generator)
            if wave_positions:
                network.vision_tower.position_embedding[1:] = wave_positions * _waves(network.vision_tower)
        if network.logit_scale is not None:
            network.logit_scale.fill_(config.logit_scale_init_value)


def _draw(module: nn.Module, std: float, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear):
        module.weight.normal_(0.0, std, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0.0, std, generator=generator)
        if module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
    elif isinstance(module, nn.LayerNorm):
        module.weight.fill_(1.0)
        module.bias.zero_()


def _draw_vision_tower(tower: VisionTower, generator: torch.Generator) -> None:
    config = tower.config
    factor, width = config.initializer_factor, config.hidden_size
    inward, outward = width**-0.5, width**-0.5 * (2 * config.depth) ** -0.5
    tower.class_embedding.normal_(0.0, inward * factor, generator=generator)
    tower.position_embedding.normal_(0.0, inward * factor, generator=generator)
    tower.patch_embedding.weight.normal_(0.0, tower.patch_embedding.in_features**-0.5 * factor, generator=generator)
    for block in tower.blocks:
        assert isinstance(block, VisionBlock)
        block.qkv.weight.normal_(0.0, inward * factor, generator=generator)
        block.out.weight.normal_(0.0, outward * factor, generator=generator)
        block.up.weight.normal_(0.0, (2 * width) ** -0.5 * factor, generator=generator)
        block.down.weight.normal_(0.0, outward * factor, generator=generator)
    for norm in tower.separate_norms:
        norm.load_state_dict(tower.norm_post.state_dict())


def _waves(tower: VisionTower) -> Tensor:
    """(patches, w): a quarter of the width each for sine and cosine of the row and of the column."""
    rows, columns = tower.config.grid
    count = tower.config.hidden_size // 4
    rates = torch.exp(torch.arange(count) * (-math.log(100.0) / count))
    row = torch.arange(rows)[:, None, None] * rates
    column = torch.arange(columns)[None, :, None] * rates
    parts = [row.sin(), row.cos(), column.sin(), column.cos()]
    return torch.cat([part.expand(rows, columns, count) for part in parts], dim=-1).reshape(rows * columns, -1)
