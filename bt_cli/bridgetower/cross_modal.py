"""The cross-modal encoder: two streams, image and text, that read each other in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.attention import CrossAttention, FeedForward, SelfAttention
from bt_cli.bridgetower.bridge import LinkTower
from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.recompute import run_layer
from bt_cli.bridgetower.states import ImageStates, TextStates

Wanted = Literal["all", "pooled", "text"]


@dataclass
class CrossAttentionMaps:
    """Attention of one cross layer, each map (B, heads, queries, keys), rows summing to 1.

    `image_to_text` has its queries in the image and its keys in the text.
    """

    text_self: Tensor
    image_self: Tensor
    text_to_image: Tensor
    image_to_text: Tensor


@dataclass
class Fusion:
    """What fusing pairs gives: the streams (B, T, h) and (B, P, h) where wanted, the pooled pair (B, 2h), the maps."""

    text_features: Tensor | None
    image_features: Tensor | None
    pooler_output: Tensor | None
    attentions: list[CrossAttentionMaps] | None = None


class CrossModalLayer(nn.Module):
    """What `CrossModal` asks of one stream's half of a layer."""

    def with_maps(
        self, states: Tensor, other: Tensor, keep: Tensor | None, other_keep: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the self-attention and cross-attention maps."""
        raise NotImplementedError


class CrossModal(nn.Module):
    """Two streams, image and text, that read each other in every layer: what all ways to compute them share.

    The layers are `CrossModalLayer`s; a subclass fills these attributes and says how pairs are run.
    """

    text_norm: nn.Module
    image_norm: nn.Module
    text_links: nn.ModuleList
    image_links: nn.ModuleList
    text_layers: nn.ModuleList
    image_layers: nn.ModuleList
    text_pooler: nn.Module
    image_pooler: nn.Module
    recompute = False

    @property
    def depth(self) -> int:
        """Number of cross-modal layers, L."""
        return len(self.text_layers)

    def forward(
        self, images: ImageStates, texts: TextStates, pairs: tuple[Tensor, Tensor] | None, wanted: Wanted = "all"
    ) -> Fusion:
        """Fuse pairs. `pairs` holds (image index, text index), each (B,) int64; None pairs row with row.

        `wanted="pooled"` computes the last layer for the two class rows alone, `"text"` for the text stream alone.
        """
        raise NotImplementedError

    def forward_with_maps(self, images: ImageStates, texts: TextStates) -> Fusion:
        """Fuse row with row and keep every cross layer's attention maps; all rows, nothing shared between pairs."""
        image_bridges, text_bridges, keep = images.need_bridges(), texts.need_bridges(), texts.keep
        text_in, image_in = self.text_norm(text_bridges[0]), self.image_norm(image_bridges[0])
        text, image = text_in, image_in
        maps = []
        for layer in range(self.depth):
            if layer:
                text_in = self._link(self.text_links, layer)(text_bridges[layer], text)
                image_in = self._link(self.image_links, layer)(image_bridges[layer], image)
            text, text_self, text_cross = self._half(self.text_layers, layer).with_maps(text_in, image_in, keep, None)
            image, image_self, image_cross = self._half(self.image_layers, layer).with_maps(
                image_in, text_in, None, keep
            )
            maps.append(CrossAttentionMaps(text_self, image_self, text_cross, image_cross))
        fusion = self._gather(text, image, "all")
        fusion.attentions = maps
        return fusion

    def _gather(self, text: Tensor, image: Tensor, wanted: Wanted) -> Fusion:
        if wanted == "text":
            return Fusion(text, None, None)
        pooled = [torch.tanh(self.text_pooler(text[:, 0])), torch.tanh(self.image_pooler(image[:, 0]))]
        pooler_output = torch.cat(pooled, dim=-1)
        if wanted == "pooled":
            return Fusion(None, None, pooler_output)
        return Fusion(text, image, pooler_output)

    def _link(self, links: nn.ModuleList, layer: int) -> nn.Module:
        """The link tower into cross layer `layer`, one for all where they are shared."""
        return links[0 if len(links) == 1 else layer - 1]

    @staticmethod
    def _half(layers: nn.ModuleList, index: int) -> CrossModalLayer:
        half = layers[index]
        assert isinstance(half, CrossModalLayer)
        return half


class CrossLayer(CrossModalLayer):
    """One stream's half of a cross-modal layer: self-attention, cross-attention, feed-forward, each post-LN."""

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        text, width, eps = config.text_config, config.hidden_size, config.cross_eps
        shape = (width, config.cross_heads, eps, text.hidden_dropout_prob, text.attention_probs_dropout_prob)
        self.self_attention = SelfAttention(*shape)
        self.cross_attention = CrossAttention(*shape)
        self.feed_forward = FeedForward(width, text.intermediate_size, text.hidden_act, eps, text.hidden_dropout_prob)

    def forward(
        self, states: Tensor, other: Tensor, keep: Tensor | None, other_keep: Tensor | None, first_only: bool = False
    ) -> Tensor:
        """`states` (B, N, h) and the other stream's bridged input (B, M, h) to (B, N, h), or (B, 1, h)."""
        states, _ = self.self_attention(states, keep, first_only=first_only)
        states, _ = self.cross_attention(states, self.cross_attention.key_value(other), other_keep)
        return self.feed_forward(states)

    def with_maps(
        self, states: Tensor, other: Tensor, keep: Tensor | None, other_keep: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the self-attention and cross-attention maps."""
        states, self_map = self.self_attention(states, keep, weights=True)
        key_value = self.cross_attention.key_value(other)
        states, cross_map = self.cross_attention(states, key_value, other_keep, weights=True)
        assert self_map is not None
        assert cross_map is not None
        return self.feed_forward(states), self_map, cross_map


class CrossModalEncoder(CrossModal):
    """L layers of two streams; the bridges of `states.bridges` enter layer by layer."""

    text_pooler: nn.Linear
    image_pooler: nn.Linear

    def __init__(self, config: BridgeTowerConfig) -> None:
        super().__init__()
        width, depth = config.hidden_size, config.num_hidden_layers
        links = min(1, depth - 1) if config.share_link_tower_layers else depth - 1
        self.text_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.image_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.text_links = nn.ModuleList(LinkTower(config) for _ in range(links))
        self.image_links = nn.ModuleList(LinkTower(config) for _ in range(links))
        self.text_layers = nn.ModuleList(CrossLayer(config) for _ in range(depth))
        self.image_layers = nn.ModuleList(CrossLayer(config) for _ in range(depth))
        self.text_pooler = nn.Linear(width, width)
        self.image_pooler = nn.Linear(width, width)

    def forward(
        self, images: ImageStates, texts: TextStates, pairs: tuple[Tensor, Tensor] | None, wanted: Wanted = "all"
    ) -> Fusion:
        """As `CrossModal.forward`: what the first layer computes of one modality, once an item, before pairing."""
        image_bridges, text_bridges = images.need_bridges(), texts.need_bridges()
        keep = None if texts.keep is None else _pick(texts.keep, pairs, 1)
        text, image = self._first_layer(image_bridges[0], text_bridges[0], texts.keep, keep, pairs, wanted)
        for layer in range(1, self.depth):
            last = layer == self.depth - 1
            text_in = self._link(self.text_links, layer)(_pick(text_bridges[layer], pairs, 1), text)
            image_in = self._link(self.image_links, layer)(_pick(image_bridges[layer], pairs, 0), image)
            first_only = last and wanted == "pooled"
            text = run_layer(self.recompute, self.text_layers[layer], text_in, image_in, keep, None, first_only)
            if not (last and wanted == "text"):
                image = run_layer(self.recompute, self.image_layers[layer], image_in, text_in, None, keep, first_only)
        return self._gather(text, image, wanted)

    def _first_layer(
        self,
        image_bridge: Tensor,
        text_bridge: Tensor,
        keep: Tensor | None,
        pair_keep: Tensor | None,
        pairs: tuple[Tensor, Tensor] | None,
        wanted: Wanted,
    ) -> tuple[Tensor, Tensor]:
        """Self-attention, keys and values once per item; cross-attention and feed-forward per pair."""
        text_layer, image_layer = _layer(self.text_layers, 0), _layer(self.image_layers, 0)
        only = self.depth == 1 and wanted == "pooled"
        text_in, image_in = self.text_norm(text_bridge), self.image_norm(image_bridge)
        text, _ = text_layer.self_attention(text_in, keep, first_only=only)
        image, _ = image_layer.self_attention(image_in, None, first_only=only)
        text_reads = _pick(text_layer.cross_attention.key_value(image_in), pairs, 0)
        image_reads = _pick(image_layer.cross_attention.key_value(text_in), pairs, 1)
        text, _ = text_layer.cross_attention(_pick(text, pairs, 1), text_reads, None)
        image, _ = image_layer.cross_attention(_pick(image, pairs, 0), image_reads, pair_keep)
        return text_layer.feed_forward(text), image_layer.feed_forward(image)


def _layer(layers: nn.ModuleList, index: int) -> CrossLayer:
    layer = layers[index]
    assert isinstance(layer, CrossLayer)
    return layer


def _pick(states: Tensor, pairs: tuple[Tensor, Tensor] | None, side: int) -> Tensor:
    """Rows of `states` for each pair; `side` 0 picks by image index, 1 by text index."""
    return states if pairs is None else states.index_select(0, pairs[side])
