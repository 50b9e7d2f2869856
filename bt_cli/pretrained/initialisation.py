"""The values that a model made from a configuration alone starts with: those of the port, by their statistics."""

from __future__ import annotations

import torch
from torch import nn

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.pretrained.layers import VisionLayer
from bt_cli.pretrained.towers import TextModel, VisionTransformer

STD = 0.05
"""Of every product and table outside the vision tower's blocks, times `initializer_factor`."""


@torch.no_grad()
def initialise(module: nn.Module, config: BridgeTowerConfig) -> None:
    """Draw the parameters of `module` and all in it from torch's generator: products and tables from a normal
    distribution, biases 0, norms 1, CLIP's own widths in the vision tower."""
    texts = [part for each in module.modules() if isinstance(each, TextModel) for part in each.modules()]
    in_text_tower = set(map(id, texts))
    for each in module.modules():
        factor = (config.text_config if id(each) in in_text_tower else config).initializer_factor
        if isinstance(each, (nn.Linear, nn.Conv2d, nn.Embedding)):
            each.weight.normal_(0.0, STD * factor)
        elif isinstance(each, nn.LayerNorm):
            each.reset_parameters()
        bias = getattr(each, "bias", None)
        if isinstance(bias, nn.Parameter):
            bias.zero_()
    for each in module.modules():
        if isinstance(each, VisionTransformer):
            _draw_vision(each, config)


def _draw_vision(visual: VisionTransformer, config: BridgeTowerConfig) -> None:
    section = config.vision_config
    width, factor = section.hidden_size, section.initializer_factor
    inward = width**-0.5 * factor
    outward = inward * (2 * section.num_hidden_layers) ** -0.5
    visual.embeddings.class_embedding.normal_(0.0, inward)
    visual.embeddings.position_embedding.weight.normal_(0.0, inward)
    visual.embeddings.patch_embedding.weight.normal_(0.0, STD * factor)
    for block in visual.blocks:
        assert isinstance(block, VisionLayer)
        block.attn.in_proj_weight.normal_(0.0, inward)
        block.attn.in_proj_bias.zero_()
        block.attn.out_proj.weight.normal_(0.0, outward)
        block.mlp.get_parameter("c_fc.weight").normal_(0.0, (2 * width) ** -0.5 * factor)
        block.mlp.get_parameter("c_proj.weight").normal_(0.0, outward)
