"""Blocks of the two towers for inference: the same functions as `bridgetower`'s, with packed weights."""

from __future__ import annotations

from torch import Tensor, nn

from bt_cli.bridgetower.attention import FeedForward, SelfAttention
from bt_cli.bridgetower.text_tower import TextLayer
from bt_cli.bridgetower.vision_tower import VisionBlock
from bt_cli.packed.attention import attend, read_by_few, split_rows
from bt_cli.packed.packer import Packer


class PackedVisionBlock(nn.Module):
    """Takes the place of a `VisionBlock`."""

    def __init__(self, block: VisionBlock, packer: Packer, *, deepest: bool) -> None:
        super().__init__()
        self.heads = block.heads
        self.norm_1, self.norm_2 = block.norm_1, block.norm_2
        weight, bias = packer.queries_scaled(block.qkv, block.heads)
        self.qkv = packer.of(weight, bias)
        self.out = packer.linear(block.out)
        self.up, self.down = packer.feed_forward(block.up, block.activation, block.down)
        # The deepest block may be asked for the class token alone, and then reads all others through these.
        self.few = FewQueries(weight, bias, block.heads) if deepest else None

    def forward(self, states: Tensor, first_only: bool = False) -> Tensor:
        """(B, P, w) to (B, P, w), or to (B, 1, w) for the class token alone."""
        normed = self.norm_1(states)
        if first_only and self.few is not None:
            mixed, states = self.few(normed, normed[:, :1]), states[:, :1].contiguous()
        else:
            mixed = attend(self.qkv(normed), self.heads)
        states = self.out(mixed, states)
        return self.down(self.up(self.norm_2(states)), states)


class FewQueries(nn.Module):
    """Self-attention in which few rows ask: see `attention.read_by_few`."""

    weight: Tensor
    query_bias: Tensor
    value_bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, heads: int) -> None:
        super().__init__()
        width = weight.shape[0] // 3
        self.heads = heads
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("query_bias", bias[:width], persistent=False)
        self.register_buffer("value_bias", bias[2 * width :], persistent=False)

    def forward(self, states: Tensor, asking: Tensor) -> Tensor:
        """`states` (B, N, h) read by `asking` (B, Q, h), to (B, Q, h)."""
        query_weight, key_weight, value_weight = self.weight.chunk(3)
        query = nn.functional.linear(asking, query_weight, self.query_bias)
        key, value = split_rows(key_weight, self.heads), split_rows(value_weight, self.heads)
        return read_by_few(query, states, key, value, self.value_bias)


class PackedSelfAttention(nn.Module):
    """Takes the place of a `SelfAttention`: attention, residual, LayerNorm."""

    def __init__(self, attention: SelfAttention, packer: Packer, *, deepest: bool = False) -> None:
        super().__init__()
        self.heads = attention.heads
        weight, bias = packer.queries_scaled(attention.qkv, attention.heads)
        self.qkv = packer.of(weight, bias)
        self.out = packer.linear(attention.out)
        self.norm = attention.norm
        self.few = FewQueries(weight, bias, attention.heads) if deepest else None

    def forward(self, states: Tensor, keep: Tensor | None = None, first_only: bool = False) -> Tensor:
        """(B, N, h) to (B, N, h), or to (B, 1, h) for the first row alone; `keep` (B, N) masks padding."""
        if first_only and self.few is not None and keep is None:
            first = states[:, :1].contiguous()
            return self.norm(self.out(self.few(states, first), first))
        mixed = attend(self.qkv(states), self.heads, keep)
        if first_only:
            mixed, states = mixed[:, :1].contiguous(), states[:, :1].contiguous()
        return self.norm(self.out(mixed, states))


class PackedFeedForward(nn.Module):
    """Takes the place of a `FeedForward`: two products, residual, LayerNorm."""

    def __init__(self, feed_forward: FeedForward, packer: Packer) -> None:
        super().__init__()
        self.up, self.down = packer.feed_forward(feed_forward.up, feed_forward.activation, feed_forward.down)
        self.norm = feed_forward.norm

    def forward(self, states: Tensor) -> Tensor:
        """(B, N, h) to (B, N, h)."""
        return self.norm(self.down(self.up(states), states))


class PackedTextLayer(nn.Module):
    """Takes the place of a `TextLayer`."""

    def __init__(self, layer: TextLayer, packer: Packer) -> None:
        super().__init__()
        self.attention = PackedSelfAttention(layer.attention, packer)
        self.feed_forward = PackedFeedForward(layer.feed_forward, packer)

    def forward(self, states: Tensor, keep: Tensor | None, first_only: bool = False) -> Tensor:
        """(B, T, w) to (B, T, w), or to (B, 1, w) for `<s>` alone."""
        return self.feed_forward(self.attention(states, keep, first_only))
