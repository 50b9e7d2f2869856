"""Bridges: how a tower's states reach the cross-modal encoder (paper, section 3.3; "link towers" in the code)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.configuration import BridgeTowerConfig


class TowerBridge(nn.Module):
    """The part of a bridge that depends on one modality alone: transform(tower state) + token type.

    One transform serves all layers, or each cross layer has its own (`share_cross_modal_transformer_layers`).
    """

    def __init__(self, config: BridgeTowerConfig, tower_width: int, token_types: int = 1) -> None:
        super().__init__()
        count = 1 if config.share_cross_modal_transformer_layers else config.num_hidden_layers
        self.transforms = nn.ModuleList(nn.Linear(tower_width, config.hidden_size) for _ in range(count))
        self.token_type = nn.Parameter(torch.empty(token_types, config.hidden_size))

    def cross(self, state: Tensor, layer: int) -> Tensor:
        """(B, N, tower width) to the bridge feature (B, N, h) of cross layer `layer`; -1 is the last."""
        shared = len(self.transforms) == 1
        return self.transforms[0 if shared else layer](state) + self.token_type[0]

    def forward(self, states: list[Tensor]) -> Tensor:
        """States of the last L tower layers to bridge features (L, B, N, h)."""
        return torch.stack([self.cross(state, layer) for layer, state in enumerate(states)])


class LinkTower(nn.Module):
    """Joins a bridge feature with the stream of the cross layer below, and normalises the sum."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        self.kind = config.link_tower_type
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.scaled_factor = nn.Parameter(torch.tensor(1.0)) if self.kind == "scaled_add" else None
        self.beta = nn.Parameter(torch.tensor(0.5)) if self.kind == "interpolate" else None

    def forward(self, bridge: Tensor, stream: Tensor) -> Tensor:
        """Both (B, N, h) to (B, N, h)."""
        if self.scaled_factor is not None:
            return self.norm(bridge * self.scaled_factor + stream)
        if self.beta is not None:
            return self.norm(bridge * (1 - self.beta) + stream * self.beta)
        return self.norm(bridge + stream)
