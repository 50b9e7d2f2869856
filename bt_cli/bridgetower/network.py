"""BridgeTower, whole: encode one modality, once; fuse a pair, as often as needed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.bridge import TowerBridge
from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.cross_modal import CrossAttentionMaps, CrossModal, CrossModalEncoder, Fusion, Wanted
from bt_cli.bridgetower.heads import ContrastiveHead, MaskedWordHead, MatchingHead
from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.bridgetower.text_tower import TextTower
from bt_cli.bridgetower.vision_tower import VisionTower
from bt_cli.errors import BadConfig, MissingHead

HEADS = ("itm", "mlm", "itc", "itc_cross")
PARTS = ("text", "vision", "cross")

Part = TypeVar("Part", bound=nn.Module)


@dataclass
class BridgeTowerOutput:
    """One forward pass over B aligned pairs; what the checkpoint has no head for is None.

    `text_features` (B, T, h), `image_features` (B, P, h), `pooler_output` (B, 2h); `itm_logits` (B, 2), `mlm_logits`
    (B, T, V); `text_embeds`, `image_embeds`, `cross_embeds` (B, d) of norm 1; `attentions` one entry per cross layer.
    """

    text_features: Tensor
    image_features: Tensor
    pooler_output: Tensor
    itm_logits: Tensor | None = None
    mlm_logits: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    cross_embeds: Tensor | None = None
    attentions: list[CrossAttentionMaps] | None = None


class BridgeTower(nn.Module):
    """The two towers, the bridges, the cross-modal encoder and the heads.

    `heads` names those that exist ("itm", "mlm", "itc", and "itc_cross" for the port's third contrastive head);
    `towers` those parts of the body ("text", "vision", "cross"): a text search needs `towers={"text"}, heads={"itc"}`.
    Parameters are left as torch makes them; `checkpoints` fills them, `initialise` draws new ones.
    """

    def __init__(
        self,
        config: BridgeTowerConfig,
        *,
        heads: Collection[str] = ("itm", "mlm", "itc", "itc_cross"),
        towers: Collection[str] = PARTS,
    ) -> None:
        super().__init__()
        unknown = sorted(set(heads) - set(HEADS)) + sorted(set(towers) - set(PARTS))
        if unknown:
            raise BadConfig(f"no part called {', '.join(unknown)}; there are {', '.join(HEADS + PARTS)}")
        self.config = config
        text, vision, cross = ("text" in towers), ("vision" in towers), ("cross" in towers)
        itc = "itc" in heads
        text_width, vision_width = config.text_config.hidden_size, config.vision_config.hidden_size
        bridged = config.itc_image_path == "bridged"
        self.text_tower = TextTower(config.text_config) if text else None
        self.vision_tower = VisionTower(config.vision_config, config.vision_depth) if vision else None
        self.text_bridge = TowerBridge(config, text_width) if text and cross else None
        bridge_images = vision and (cross or (itc and bridged))
        self.image_bridge = TowerBridge(config, vision_width, config.token_types - 1) if bridge_images else None
        self.cross_modal: CrossModal | None = CrossModalEncoder(config) if cross else None
        self.itm_head = MatchingHead(config) if cross and "itm" in heads else None
        self.mlm_head = MaskedWordHead(config) if cross and "mlm" in heads else None
        dimension = config.contrastive_hidden_size or config.hidden_size
        image_width = config.hidden_size if bridged else vision_width
        self.itc_text_head = ContrastiveHead(text_width, dimension) if text and itc else None
        self.itc_image_head = ContrastiveHead(image_width, dimension) if vision and itc else None
        with_cross = cross and itc and "itc_cross" in heads
        self.itc_cross_head = ContrastiveHead(2 * config.hidden_size, dimension) if with_cross else None
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value))) if itc else None

    def encode_images(
        self, pixel_values: Tensor, *, bridges: bool | None = None, embeds: bool | None = None
    ) -> ImageStates:
        """Run the vision tower once.

        `pixel_values` (B, 3, H, W) float32, normalised. `bridges` asks for what fusing needs, `embeds` for the ITC
        embedding; None means wherever this network has the parts. Raises MissingHead for a part that it lacks.
        """
        tower = _need(self.vision_tower, "the vision tower")
        bridges = self.image_bridge is not None and self.cross_modal is not None if bridges is None else bridges
        embeds = self.itc_image_head is not None if embeds is None else embeds
        depth = self.config.num_hidden_layers if bridges else 1
        hidden_states = tower(pixel_values, depth, first_only=not bridges)
        features = _need(self.image_bridge, "the image bridge")(hidden_states) if bridges else None
        return ImageStates(features, self._image_embeds(hidden_states[-1][:, 0], features) if embeds else None)

    def _image_embeds(self, class_state: Tensor, features: Tensor | None) -> Tensor:
        """`class_state` (B, w): the vision tower's last class token; reuses the last bridge feature where it exists."""
        head = _need(self.itc_image_head, "the ITC image head")
        if self.config.itc_image_path == "tower":
            return head(class_state)
        if features is not None:
            return head(features[-1][:, 0])
        return head(_need(self.image_bridge, "the image bridge").cross(class_state, -1))

    def encode_texts(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        bridges: bool | None = None,
        embeds: bool | None = None,
    ) -> TextStates:
        """Run the text tower once.

        `input_ids` (B, T) int64, `attention_mask` (B, T), 0 where padded (None: nothing is). Options as in
        `encode_images`.
        """
        tower = _need(self.text_tower, "the text tower")
        bridges = self.text_bridge is not None if bridges is None else bridges
        embeds = self.itc_text_head is not None if embeds is None else embeds
        keep = None if attention_mask is None else attention_mask.to(torch.bool)
        if keep is not None and not torch.compiler.is_compiling() and bool(keep.all()):
            keep = None
        depth = self.config.num_hidden_layers if bridges else 1
        hidden_states = tower(input_ids, keep, depth, first_only=not bridges)
        features = _need(self.text_bridge, "the text bridge")(hidden_states) if bridges else None
        return TextStates(
            features, keep, _need(self.itc_text_head, "the ITC text head")(hidden_states[-1][:, 0]) if embeds else None
        )

    def fuse(
        self,
        images: ImageStates,
        texts: TextStates,
        pairs: tuple[Tensor, Tensor] | None = None,
        *,
        wanted: Wanted = "all",
        attentions: bool = False,
    ) -> Fusion:
        """Run the cross-modal encoder over pairs of encoded images and texts.

        `pairs` holds (image index, text index), each (B,) int64; None pairs row with row. `wanted` says what the last
        layer has to compute: "all" rows, the "pooled" class rows (ITM), or the "text" stream (MLM). `attentions` adds
        the cross layers' attention maps.
        """
        encoder = _need(self.cross_modal, "the cross-modal encoder")
        if not attentions:
            return encoder(images, texts, pairs, wanted)
        if pairs is not None:
            images, texts = images.select(pairs[0]), texts.select(pairs[1])
        return encoder.forward_with_maps(images, texts)

    def itm_logits(self, pooler_output: Tensor) -> Tensor:
        """(B, 2h) to match logits (B, 2) float32; column 1 is "they match". Raises MissingHead."""
        return _need(self.itm_head, "an ITM head")(pooler_output)

    def mlm_logits(self, text_features: Tensor) -> Tensor:
        """(..., h) to word logits (..., V). Raises MissingHead."""
        return _need(self.mlm_head, "an MLM head")(text_features)

    def cross_embeds(self, pooler_output: Tensor) -> Tensor:
        """(B, 2h) to the embedding of the pair (B, d) float32 of norm 1. Raises MissingHead."""
        return _need(self.itc_cross_head, "an ITC cross-modal head")(pooler_output)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        attentions: bool = False,
    ) -> BridgeTowerOutput:
        """Encode and fuse B aligned pairs: pixels (B, 3, H, W), ids (B, T), mask (B, T); every head that exists."""
        images = self.encode_images(pixel_values)
        texts = self.encode_texts(input_ids, attention_mask)
        fusion = self.fuse(images, texts, attentions=attentions)
        assert fusion.text_features is not None
        assert fusion.image_features is not None
        assert fusion.pooler_output is not None
        pooled = fusion.pooler_output
        return BridgeTowerOutput(
            text_features=fusion.text_features,
            image_features=fusion.image_features,
            pooler_output=pooled,
            itm_logits=None if self.itm_head is None else self.itm_logits(pooled),
            mlm_logits=None if self.mlm_head is None else self.mlm_logits(fusion.text_features),
            text_embeds=texts.embeds,
            image_embeds=images.embeds,
            cross_embeds=None if self.itc_cross_head is None else self.cross_embeds(pooled),
            attentions=fusion.attentions,
        )

    def recompute_activations(self, on: bool = True) -> None:
        """Trade time for memory in training: layers' activations are made again in the backward pass."""
        for part in (self.text_tower, self.vision_tower, self.cross_modal):
            if part is not None:
                part.recompute = on


def _need(part: Part | None, what: str) -> Part:
    if part is None:
        raise MissingHead(f"this network was built without {what}; load a checkpoint that has it, or more of this one")
    return part
