"""Activation checkpointing: in training, a layer's activations may be computed again instead of being kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_layer(recompute: bool, layer: nn.Module, *inputs: Any) -> Any:
    """`layer(*inputs)`; with `recompute` and gradients on, its activations are dropped and made again backwards."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False)
    return layer(*inputs)
