"""Multi-head attention, and the post-LN blocks that RoBERTa and cross-modal layers are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    *,
    keep: Tensor | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention.

    `query` (B, Q, h), `key` and `value` (B, K, h), `keep` (B, K) bool where True may be attended to; where it is False
    throughout, all keys count alike. Returns (B, Q, h) and, when `weights` is asked for, the attention map
    (B, heads, Q, K), else None.
    """
    q, k, v = (split_heads(states, heads) for states in (query, key, value))
    mask = None if keep is None else keep[:, None, None, :]
    # On a CPU the backward pass of the fused kernel is some ten times slower than plain products at small sizes.
    plain = weights or (q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad)
    if not plain:
        if mask is not None:
            # Not minus infinity, as the kernel makes of a bool: a row without a single True would become NaN or zeros,
            # by dtype and kernel, and not what the plain products give.
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return join_heads(mixed), None
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    map_ = scores.softmax(dim=-1)
    mixed = torch.matmul(F.dropout(map_, dropout, dropout > 0.0), v)
    return join_heads(mixed), map_ if weights else None


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, N, h) to (B, heads, N, h / heads), a view."""
    batch, length, width = states.shape
    return states.view(batch, length, heads, width // heads).transpose(1, 2)


def join_heads(states: Tensor) -> Tensor:
    """(B, heads, N, d) to (B, N, heads * d)."""
    batch, heads, length, width = states.shape
    return states.transpose(1, 2).reshape(batch, length, heads * width)


class SelfAttention(nn.Module):
    """Self-attention, residual and LayerNorm after it. One packed product makes queries, keys and values."""

    def __init__(self, width: int, heads: int, eps: float, dropout: float = 0.0, map_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.map_dropout = map_dropout

    def forward(
        self, states: Tensor, keep: Tensor | None = None, *, first_only: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, h) to (B, N, h), or to (B, 1, h) for the first row alone, with the map where it is asked for."""
        dropout = self.map_dropout if self.training else 0.0
        if first_only:
            query, key, value = first_row_qkv(self.qkv, states)
            states = states[:, :1]
        else:
            query, key, value = self.qkv(states).chunk(3, dim=-1)
        mixed, map_ = attention(query, key, value, self.heads, keep=keep, dropout=dropout, weights=weights)
        return self.norm(self.dropout(self.out(mixed)) + states), map_


def first_row_qkv(qkv: nn.Linear, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the first row (B, 1, h), keys and values of all rows (B, N, h).

    A third of the product is saved where the layer shows its weight; a layer that packs it away computes all three.
    """
    weight = getattr(qkv, "weight", None)
    if type(qkv) is not nn.Linear or weight is None:
        query, key, value = qkv(states).chunk(3, dim=-1)
        return query[:, :1], key, value
    width = weight.shape[1]
    query = F.linear(states[:, :1], weight[:width], qkv.bias[:width])
    key, value = F.linear(states, weight[width:], qkv.bias[width:]).chunk(2, dim=-1)
    return query, key, value


class CrossAttention(nn.Module):
    """Attention of one stream to the other, residual and LayerNorm after it."""

    def __init__(self, width: int, heads: int, eps: float, dropout: float = 0.0, map_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.map_dropout = map_dropout

    def forward(
        self, states: Tensor, key_value: Tensor, keep: Tensor | None = None, *, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """`states` (B, Q, h); `key_value` (B, K, 2h), the other stream through `self.key_value`; `keep` (B, K)."""
        dropout = self.map_dropout if self.training else 0.0
        key, value = key_value.chunk(2, dim=-1)
        query = self.query(states)
        mixed, map_ = attention(query, key, value, self.heads, keep=keep, dropout=dropout, weights=weights)
        return self.norm(self.dropout(self.out(mixed)) + states), map_


class FeedForward(nn.Module):
    """Two products with an activation between, residual and LayerNorm after them."""

    def __init__(self, width: int, inner: int, activation: str, eps: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.activation = activation_by_name(activation)
        self.down = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, h) to (B, N, h)."""
        return self.norm(self.dropout(self.down(self.activation(self.up(states)))) + states)


class QuickGELU(nn.Module):
    """CLIP's cheap stand-in for GELU: x * sigmoid(1.702 x)."""

    def forward(self, states: Tensor) -> Tensor:
        return states * torch.sigmoid(1.702 * states)


def activation_by_name(name: str) -> nn.Module:
    """The activation that a config calls `name`; the configuration has refused unknown names."""
    if name == "gelu":
        return nn.GELU()
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return nn.GELU(approximate="tanh")
    if name in ("silu", "swish"):
        return nn.SiLU()
    return QuickGELU() if name == "quick_gelu" else nn.ReLU()
