"""The network's layers under the names that the hub's files, hooks and adapters know them by.

`bridgetower` packs queries, keys and values into one product, which is fast and has no module called `query` for an
adapter to replace or a hook to watch. These modules have: each is called where its name says, computes through
`bridgetower`'s functions, and gives to rounding what the packed network gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bt_cli.bridgetower.attention import QuickGELU, activation_by_name, attention
from bt_cli.bridgetower.configuration import BridgeTowerConfig, BridgeTowerTextConfig, BridgeTowerVisionConfig


class QueryKeyValue(nn.Module):
    """Multi-head attention of one sequence to another, or to itself: the part called `self`."""

    def __init__(self, width: int, heads: int, map_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = nn.Dropout(map_dropout)

    def forward(
        self, states: Tensor, other: Tensor, keep: Tensor | None = None, *, maps: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """`states` (B, Q, h) reading `other` (B, K, h), of which `keep` (B, K) bool is seen, to (B, Q, h).

        With `maps` also the attention (B, heads, Q, K), else None.
        """
        query, key, value = self.query(states), self.key(other), self.value(other)
        dropout = self.dropout.p if self.training else 0.0
        return attention(query, key, value, self.heads, keep=keep, dropout=dropout, weights=maps)


class ResidualOutput(nn.Module):
    """What ends a post-LN block: a product, dropout, the residual, LayerNorm. The part called `output`."""

    def __init__(self, inputs: int, width: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        """(B, N, in) and (B, N, h) to (B, N, h)."""
        return self.LayerNorm(self.dropout(self.dense(states)) + residual)


class Intermediate(nn.Module):
    """The first half of a feed-forward: a product and an activation."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)
        self.intermediate_act_fn = activation_by_name(activation)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, h) to (B, N, inner)."""
        return self.intermediate_act_fn(self.dense(states))


class Attention(nn.Module):
    """Attention and what ends it."""

    def __init__(self, width: int, heads: int, eps: float, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        self.self = QueryKeyValue(width, heads, config.attention_probs_dropout_prob)
        self.output = ResidualOutput(width, width, eps, config.hidden_dropout_prob)

    def forward(
        self, states: Tensor, other: Tensor | None = None, keep: Tensor | None = None, *, maps: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As `QueryKeyValue`; `other` None is `states` itself."""
        mixed, map_ = self.self(states, states if other is None else other, keep, maps=maps)
        return self.output(mixed, states), map_


class TextLayer(nn.Module):
    """A layer of RoBERTa: self-attention and feed-forward, each post-LN."""

    def __init__(self, config: BridgeTowerTextConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attention = Attention(width, config.num_attention_heads, eps, config)
        self.intermediate = Intermediate(width, config.intermediate_size, config.hidden_act)
        self.output = ResidualOutput(config.intermediate_size, width, eps, config.hidden_dropout_prob)

    def forward(self, states: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, T, w) to (B, T, w); `keep` (B, T) bool masks padding."""
        states, _ = self.attention(states, None, keep)
        return self.output(self.intermediate(states), states)


class CrossLayer(nn.Module):
    """One stream's half of a cross-modal layer: self-attention, attention to the other stream, feed-forward."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        text, width, eps = config.text_config, config.hidden_size, config.cross_eps
        self.attention = Attention(width, config.cross_heads, eps, text)
        self.crossattention = Attention(width, config.cross_heads, eps, text)
        self.intermediate = Intermediate(width, text.intermediate_size, text.hidden_act)
        self.output = ResidualOutput(text.intermediate_size, width, eps, text.hidden_dropout_prob)

    def forward(
        self,
        states: Tensor,
        other: Tensor,
        keep: Tensor | None = None,
        other_keep: Tensor | None = None,
        maps: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`states` (B, N, h) reading `other` (B, M, h), to (B, N, h), and with `maps` both attentions, else None."""
        states, self_map = self.attention(states, None, keep, maps=maps)
        states, cross_map = self.crossattention(states, other, other_keep, maps=maps)
        return self.output(self.intermediate(states), states), self_map, cross_map


class VisionAttention(nn.Module):
    """CLIP's self-attention, whose queries, keys and values are one product in the hub's files as well."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """(P, B, w) to (P, B, w): patches come first, as in CLIP."""
        packed = F.linear(states, self.in_proj_weight, self.in_proj_bias).transpose(0, 1)
        query, key, value = packed.chunk(3, dim=-1)
        mixed, _ = attention(query, key, value, self.heads)
        return self.out_proj(mixed.transpose(0, 1))


class VisionLayer(nn.Module):
    """A block of the vision transformer, pre-LN."""

    def __init__(self, config: BridgeTowerVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attn = VisionAttention(width, config.heads)
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        """(P, B, w) to (P, B, w)."""
        states = states + self.attn(self.ln_1(states))
        return states + self.mlp(self.ln_2(states))


class Pooler(nn.Module):
    """The first row through a product and tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = nn.Tanh()

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, h) to (B, h)."""
        return self.activation(self.dense(states[:, 0]))


class LinkTower(nn.Module):
    """Joins a bridge feature with the stream of the cross layer below; see `bridgetower.bridge.LinkTower`."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        kind = config.link_tower_type
        self.scaled_factor = nn.Parameter(torch.tensor(1.0)) if kind == "scaled_add" else None
        self.beta = nn.Parameter(torch.tensor(0.5)) if kind == "interpolate" else None

    def forward(self, bridge: Tensor, stream: Tensor) -> Tensor:
        """Both (B, N, h) to (B, N, h)."""
        if self.scaled_factor is not None:
            return self.LayerNorm(bridge * self.scaled_factor + stream)
        if self.beta is not None:
            return self.LayerNorm(bridge * (1 - self.beta) + stream * self.beta)
        return self.LayerNorm(bridge + stream)


def one_or_each(shared: bool, count: int, make: Callable[[], nn.Module]) -> nn.Module:
    """One module for all layers, or a list of `count`: the hub's names have a number only in the second case."""
    return make() if shared else nn.ModuleList(make() for _ in range(count))


def of_layer(module: nn.Module, layer: int) -> nn.Module:
    """The module that serves `layer`."""
    return module[layer] if isinstance(module, nn.ModuleList) else module
