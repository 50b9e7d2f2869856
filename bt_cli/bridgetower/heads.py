"""The heads: image-text matching, masked language modelling, image-text contrastive."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bt_cli.bridgetower.attention import activation_by_name
from bt_cli.bridgetower.configuration import BridgeTowerConfig


class MatchingHead(nn.Module):
    """ITM: the pooled pair (B, 2h) to two logits (B, 2); column 1 says that image and text match."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * config.hidden_size, 2)

    def forward(self, pooler_output: Tensor) -> Tensor:
        """(B, 2h) to (B, 2) float32."""
        return self.fc(pooler_output).float()


class MaskedWordHead(nn.Module):
    """MLM: text features (..., h) to logits over the vocabulary (..., V)."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        width, vocabulary = config.hidden_size, config.text_config.vocab_size
        self.dense = nn.Linear(width, width)
        self.activation = activation_by_name(config.hidden_act)
        self.norm = nn.LayerNorm(width, eps=config.mlm_eps)
        self.decoder = nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, text_features: Tensor) -> Tensor:
        """(..., h) to (..., V)."""
        return self.decoder(self.norm(self.activation(self.dense(text_features)))) + self.bias


class ContrastiveHead(nn.Module):
    """ITC: one state (B, w) to an embedding (B, d) float32 of norm 1."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, dimension)

    def forward(self, state: Tensor) -> Tensor:
        """(B, w) to (B, d)."""
        return F.normalize(self.fc(state).float(), dim=-1)
