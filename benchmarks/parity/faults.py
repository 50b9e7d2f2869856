"""Faults to plant in a checkpoint: each has to make the comparison fail, or the comparison is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]
Config = dict[str, Any]


def swap_links(tensors: Tensors, config: Config) -> None:
    """The first two link towers of the text stream change places."""
    for part in ("weight", "bias"):
        one, two = (f"bridgetower.cross_modal_text_link_tower.{number}.LayerNorm.{part}" for number in (0, 1))
        tensors[one], tensors[two] = tensors[two].clone(), tensors[one].clone()


def drop_token_type(tensors: Tensors, config: Config) -> None:
    """The images' token type is lost."""
    table = tensors["bridgetower.token_type_embeddings.weight"].clone()
    table[1] = 0.0
    tensors["bridgetower.token_type_embeddings.weight"] = table


def flip_text_eps(tensors: Tensors, config: Config) -> None:
    """The epsilon of the text tower and the cross layers is off by 1e-2."""
    config["text_config"]["layer_norm_eps"] = config["text_config"].get("layer_norm_eps", 1e-5) + 1e-2


def flip_vision_eps(tensors: Tensors, config: Config) -> None:
    """The vision tower's epsilon is off by 1e-2."""
    config["vision_config"]["layer_norm_eps"] = config["vision_config"].get("layer_norm_eps", 1e-5) + 1e-2


def flip_eps(tensors: Tensors, config: Config) -> None:
    """The epsilon of the bridges and of the MLM transform is off by 1e-2."""
    config["layer_norm_eps"] = config.get("layer_norm_eps", 1e-5) + 1e-2


def swap_contrastive_heads(tensors: Tensors, config: Config) -> None:
    """The text's and the images' contrastive head change places."""
    for part in ("weight", "bias"):
        one, two = f"itc_text_head.fc.{part}", f"itc_image_head.fc.{part}"
        tensors[one], tensors[two] = tensors[two].clone(), tensors[one].clone()


def shift_positions(tensors: Tensors, config: Config) -> None:
    """The picture's positions are off by one patch."""
    name = "bridgetower.vision_model.visual.embeddings.position_embedding.weight"
    tensors[name] = torch.roll(tensors[name], 1, dims=0)


FAULTS: dict[str, Callable[[Tensors, Config], None]] = {
    "links": swap_links,
    "token-type": drop_token_type,
    "text-eps": flip_text_eps,
    "vision-eps": flip_vision_eps,
    "eps": flip_eps,
    "itc-heads": swap_contrastive_heads,
    "positions": shift_positions,
}
