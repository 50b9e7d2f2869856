"""The cross-modal encoder for inference.

Texts are short and images long. Where the image stream reads a text, or a text (or a lone class row) reads an image,
the short side's keys or queries are taken through the weights instead of the long side's states: for 16 tokens beside
325 patches that is a quarter of the products (`attention.read_few`, `attention.read_by_few`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.attention import CrossAttention
from bt_cli.bridgetower.cross_modal import (
    CrossLayer,
    CrossModal,
    CrossModalEncoder,
    CrossModalLayer,
    Fusion,
    Wanted,
)
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.packed.attention import read_by_few, read_few, split_rows
from bt_cli.packed.packer import Packer
from bt_cli.packed.slice_pool import SlicePool
from bt_cli.packed.towers import PackedFeedForward, PackedSelfAttention


class PackedCrossAttention(nn.Module):
    """Takes the place of a `CrossAttention`; knows the ways round and takes the cheaper one."""

    query_weight: Tensor  # (heads, d, h), scaled
    query_bias: Tensor  # (heads, d), scaled
    key_weight: Tensor  # (heads, d, h)
    value_weight: Tensor  # (heads, d, h)
    value_bias: Tensor  # (h,)
    out_weight: Tensor  # (heads, d, h), transposed
    out_bias: Tensor  # (h,)

    def __init__(self, attention: CrossAttention, packer: Packer) -> None:
        super().__init__()
        self.heads = attention.heads
        width = attention.out.out_features
        scale = (width // self.heads) ** -0.5
        query_weight, query_bias = attention.query.weight.data * scale, attention.query.bias.data * scale
        self.query = packer.of(query_weight, query_bias)
        self.key_value = packer.linear(attention.key_value)
        self.out = packer.linear(attention.out)
        self.norm = attention.norm
        key_weight, value_weight = attention.key_value.weight.data.chunk(2)
        for name, weight in (
            ("query_weight", query_weight),
            ("key_weight", key_weight),
            ("value_weight", value_weight),
            ("out_weight", attention.out.weight.data.T.contiguous()),
        ):
            self.register_buffer(name, split_rows(weight, self.heads), persistent=False)
        self.register_buffer("query_bias", query_bias.view(self.heads, -1), persistent=False)
        self.register_buffer("value_bias", attention.key_value.bias.data[width:], persistent=False)
        self.register_buffer("out_bias", attention.out.bias.data, persistent=False)
        self.few = width // (2 * self.heads)  # beyond this many rows the detour costs more than it saves

    def forward(self, states: Tensor, other: Tensor, other_keep: Tensor | None) -> Tensor:
        """`states` (B, N, h) reading `other` (B, M, h), which `other_keep` (B, M) masks; to (B, N, h)."""
        many, length = states.shape[1], other.shape[1]
        if many <= min(self.few, length) and other_keep is None:
            mixed = read_by_few(self.query(states), other, self.key_weight, self.value_weight, self.value_bias)
            return self.norm(self.out(mixed, states))
        key, value = self.key_value(other).chunk(2, dim=-1)
        if length <= min(self.few, many):
            through = self.query_weight, self.query_bias, self.out_weight
            read = read_few(states, key, value, *through, other_keep)
            return self.norm(read.add_(self.out_bias).add_(states))
        return self.norm(self.out(self._plain(states, key, value, other_keep), states))

    def _plain(self, states: Tensor, key: Tensor, value: Tensor, keep: Tensor | None) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(states), key, value)
        )
        mask = None if keep is None else keep[:, None, None, :]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).reshape(states.shape)

    def with_map(self, states: Tensor, other: Tensor, other_keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `forward`, with the attention map (B, heads, N, M)."""
        key, value = self.key_value(other).chunk(2, dim=-1)
        query = self.query(states)
        map_ = attention_map(query, key, self.heads, other_keep)
        return self.norm(self.out(_mix(map_, value), states)), map_


class PackedCrossLayer(CrossModalLayer):
    """Takes the place of a `CrossLayer`."""

    def __init__(self, layer: CrossLayer, packer: Packer, *, deepest: bool) -> None:
        super().__init__()
        self.self_attention = PackedSelfAttention(layer.self_attention, packer, deepest=deepest)
        self.cross_attention = PackedCrossAttention(layer.cross_attention, packer)
        self.feed_forward = PackedFeedForward(layer.feed_forward, packer)

    def forward(
        self, states: Tensor, other: Tensor, keep: Tensor | None, other_keep: Tensor | None, first_only: bool = False
    ) -> Tensor:
        """`states` (B, N, h) and the other stream's bridged input (B, M, h) to (B, N, h), or (B, 1, h)."""
        states = self.self_attention(states, keep, first_only)
        return self.feed_forward(self.cross_attention(states, other, other_keep))

    def with_maps(
        self, states: Tensor, other: Tensor, keep: Tensor | None, other_keep: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the self-attention and cross-attention maps."""
        attention = self.self_attention
        query, key, value = attention.qkv(states).chunk(3, dim=-1)
        self_map = attention_map(query, key, attention.heads, keep)
        states = attention.norm(attention.out(_mix(self_map, value), states))
        states, cross_map = self.cross_attention.with_map(states, other, other_keep)
        return self.feed_forward(states), self_map, cross_map


class PackedCrossModal(CrossModal):
    """Takes the place of a `CrossModalEncoder`. Pairs are run `pairs_at_once` at a time, so memory has a bound."""

    def __init__(self, encoder: CrossModalEncoder, packer: Packer, pool: SlicePool, *, pairs_at_once: int) -> None:
        super().__init__()
        self.text_norm, self.image_norm = encoder.text_norm, encoder.image_norm
        self.text_links, self.image_links = encoder.text_links, encoder.image_links
        self.text_layers = _packed_layers(encoder.text_layers, packer)
        self.image_layers = _packed_layers(encoder.image_layers, packer)
        self.text_pooler, self.image_pooler = packer.head(encoder.text_pooler), packer.head(encoder.image_pooler)
        self.pool = pool
        self.pairs_at_once = pairs_at_once
        self.images_at_once = max(1, pairs_at_once // 2)

    def forward(
        self, images: ImageStates, texts: TextStates, pairs: tuple[Tensor, Tensor] | None, wanted: Wanted = "all"
    ) -> Fusion:
        """As `CrossModal.forward`; the first layer's self-attention is computed once per item."""
        image_bridges, text_bridges = images.need_bridges(), texts.need_bridges()
        only = self.depth == 1 and wanted == "pooled"
        text_in = self.text_norm(text_bridges[0])
        text = _layer(self.text_layers, 0).self_attention(text_in, texts.keep, only)

        def read_itself(bridge: Tensor) -> tuple[Tensor, Tensor]:
            states = self.image_norm(bridge)
            return states, _layer(self.image_layers, 0).self_attention(states, None, only)

        at_once = self.pool.share(len(images), self.images_at_once)
        parts = self.pool.map(read_itself, image_bridges[0].split(at_once))
        image_in, image = (torch.cat(side) for side in zip(*parts, strict=True))
        first = text_in, image_in, text, image
        if pairs is None:
            count = image_bridges.shape[1]
            pairs = (torch.arange(count, device=image_bridges.device),) * 2
        at_once = self.pool.share(len(pairs[0]), self.pairs_at_once)
        some = list(zip(*(side.split(at_once) for side in pairs), strict=True))
        done = self.pool.map(
            lambda pairs: self._run(image_bridges, text_bridges, texts.keep, first, pairs, wanted), some
        )
        return done[0] if len(done) == 1 else _join(done)

    def _run(
        self,
        image_bridges: Tensor,
        text_bridges: Tensor,
        keep: Tensor | None,
        first: tuple[Tensor, ...],
        pairs: tuple[Tensor, ...],
        wanted: Wanted,
    ) -> Fusion:
        by_image, by_text = pairs
        keep = None if keep is None else keep[by_text]
        longest = text_bridges.shape[2]
        if keep is not None and wanted == "pooled":  # no one sees the rows beyond the longest text of these pairs
            seen = keep.any(dim=0).nonzero()  # a caller's mask may have holes or stand at the right
            longest = int(seen[-1]) + 1 if len(seen) else longest
            keep = keep[:, :longest]
            keep = None if bool(keep.all()) else keep
        text_in, image_in = first[0][by_text, :longest], first[1][by_image]
        text_layer, image_layer = _layer(self.text_layers, 0), _layer(self.image_layers, 0)
        text = first[2][by_text] if first[2].shape[1] == 1 else first[2][by_text, :longest]
        text = text_layer.feed_forward(text_layer.cross_attention(text, image_in, None))
        image = image_layer.feed_forward(image_layer.cross_attention(first[3][by_image], text_in, keep))
        for layer in range(1, self.depth):
            last = layer == self.depth - 1
            text_in = self._link(self.text_links, layer)(text_bridges[layer][by_text, :longest], text)
            image_in = self._link(self.image_links, layer)(image_bridges[layer][by_image], image)
            first_only = last and wanted == "pooled"
            text = _layer(self.text_layers, layer)(text_in, image_in, keep, None, first_only)
            if not (last and wanted == "text"):
                image = _layer(self.image_layers, layer)(image_in, text_in, None, keep, first_only)
        return self._gather(text, image, wanted)


def _packed_layers(layers: nn.ModuleList, packer: Packer) -> nn.ModuleList:
    packed = nn.ModuleList()
    for index in range(len(layers)):
        packed.append(PackedCrossLayer(cast(CrossLayer, layers[index]), packer, deepest=index == len(layers) - 1))
        layers[index] = nn.Identity()  # its float weights may go while the next are packed
    return packed


def _layer(layers: nn.ModuleList, index: int) -> PackedCrossLayer:
    return cast(PackedCrossLayer, layers[index])


def attention_map(query: Tensor, key: Tensor, heads: int, keep: Tensor | None) -> Tensor:
    """(B, N, h) scaled queries and (B, M, h) keys to attention (B, heads, N, M), rows summing to 1."""
    query, key = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key))
    scores = query @ key.transpose(-1, -2)
    if keep is not None:
        scores = scores.masked_fill(~keep[:, None, None, :], float("-inf"))
    return scores.softmax(-1)


def _mix(map_: Tensor, value: Tensor) -> Tensor:
    mixed = map_ @ value.unflatten(-1, (map_.shape[1], -1)).transpose(1, 2)
    return mixed.transpose(1, 2).flatten(2)


def _join(parts: list[Fusion]) -> Fusion:
    def joined(name: str) -> Tensor | None:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else torch.cat(pieces)

    return Fusion(joined("text_features"), joined("image_features"), joined("pooler_output"))
