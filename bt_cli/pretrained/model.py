"""`BridgeTowerModel`: the two towers and the cross-modal encoder, without a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.configuration import BridgeTowerConfig as NetworkConfig
from bt_cli.bridgetower.recompute import run_layer
from bt_cli.pretrained.batch_input import BatchInput, checked_batch
from bt_cli.pretrained.configuration import BridgeTowerConfig
from bt_cli.pretrained.layers import CrossLayer, LinkTower, Pooler, of_layer, one_or_each
from bt_cli.pretrained.outputs import BridgeTowerModelOutput
from bt_cli.pretrained.pretrained_model import BridgeTowerPreTrainedModel
from bt_cli.pretrained.towers import TextModel, VisionModel


@dataclass
class BodyStates:
    """One plain pass: the last states, the pooled pair, and every state on the way in the structure of the outputs."""

    text_features: Tensor
    image_features: Tensor
    pooler_output: Tensor
    text_states: tuple[Tensor, ...]
    image_states: tuple[Tensor, ...]
    cross_states: tuple[tuple[Tensor, Tensor], ...]
    attentions: tuple[tuple[Tensor | None, Tensor | None], ...]

    def asked_for(self, hidden_states: bool, attentions: bool) -> dict[str, Any]:
        """The entries of an output that are there on request."""
        found: dict[str, Any] = {}
        if hidden_states:
            found["hidden_states"] = (self.text_states, self.image_states, self.cross_states)
        if attentions:
            found["attentions"] = self.attentions
        return found


class BridgeTowerModel(BridgeTowerPreTrainedModel):
    """BridgeTower without a head: features of text and image that have read each other, and a pooled pair.

    `BridgeTowerModel(config)` has new parameters, `BridgeTowerModel.from_pretrained(name)` a checkpoint's.
    """

    def __init__(self, config: BridgeTowerConfig | NetworkConfig) -> None:
        super().__init__(config)
        config = self.config
        text, vision, width, depth = (
            config.text_config,
            config.vision_config,
            config.hidden_size,
            config.num_hidden_layers,
        )
        shared = config.share_cross_modal_transformer_layers
        self.cross_modal_text_transform = one_or_each(shared, depth, lambda: nn.Linear(text.hidden_size, width))
        self.cross_modal_image_transform = one_or_each(shared, depth, lambda: nn.Linear(vision.hidden_size, width))
        self.token_type_embeddings = nn.Embedding(config.token_types, width)
        self.vision_model = VisionModel(vision)
        self.text_model = TextModel(text)
        self.cross_modal_image_layers = nn.ModuleList(CrossLayer(config) for _ in range(depth))
        self.cross_modal_text_layers = nn.ModuleList(CrossLayer(config) for _ in range(depth))
        self.cross_modal_image_pooler = Pooler(width)
        self.cross_modal_text_pooler = Pooler(width)
        self.cross_modal_text_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.cross_modal_image_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        shared = config.share_link_tower_layers
        self.cross_modal_text_link_tower = one_or_each(shared, depth - 1, lambda: LinkTower(config))
        self.cross_modal_image_link_tower = one_or_each(shared, depth - 1, lambda: LinkTower(config))
        self._built()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        image_embeds: Tensor | None = None,
        image_token_type_idx: int | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BridgeTowerModelOutput | tuple[Any, ...]:
        """B pairs of text and image.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T), 0 where padded; None: nothing is.
            token_type_ids: Accepted, and without effect: RoBERTa knows one type.
            pixel_values: (B, 3, H, W) float, as the processor makes them.
            pixel_mask: Accepted, and without effect: the network has always seen whole images.
            inputs_embeds: Not taken.
            image_embeds: (B, P, w), what the vision tower's first block is to take, instead of pixel_values.
            image_token_type_idx: The row of the token type table for images, 1 by default (0 stands for 1).
            labels: Accepted, and without effect: there is no head to train.
            interpolate_pos_encoding: Resize the position table to images of another size than the model's own.
            output_attentions: Add the cross-modal layers' self-attention.
            output_hidden_states: Add all states on the way.
            return_dict: False for a plain tuple.

        Raises:
            BadInput: A ValueError: what is missing, or does not fit together.
        """
        arguments = (image_embeds, inputs_embeds, image_token_type_idx, interpolate_pos_encoding)
        batch = self.checked(input_ids, attention_mask, pixel_values, *arguments)
        hidden, maps = self._wants(output_hidden_states, output_attentions)
        features = None
        if not hidden and not maps:
            features = self._fast_results(
                batch,
                "all",
                lambda network, made: (
                    cast(Tensor, made.fusion.text_features),
                    cast(Tensor, made.fusion.image_features),
                    cast(Tensor, made.fusion.pooler_output),
                ),
                lambda: _features(self.encode(batch)),
            )
        extra: dict[str, Any] = {}
        if features is None:
            states = self.encode(batch, maps)
            features, extra = _features(states), states.asked_for(hidden, maps)
        text, image, pooled = features
        output = BridgeTowerModelOutput(text_features=text, image_features=image, pooler_output=pooled, **extra)
        return self._returned(output, return_dict)

    def checked(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        pixel_values: Tensor | None,
        image_embeds: Tensor | None,
        inputs_embeds: Tensor | None,
        image_token_type_idx: int | None,
        interpolate_pos_encoding: bool,
    ) -> BatchInput:
        """The arguments of `forward`, looked at. Raises BadInput."""
        batch = checked_batch(
            self.config,
            input_ids,
            attention_mask,
            pixel_values,
            image_embeds,
            inputs_embeds,
            image_token_type_idx,
            interpolate_pos_encoding,
        )
        if batch.pixel_values is not None:
            height, width = batch.pixel_values.shape[-2:]
            self.vision_model.visual.embeddings.check_size(height, width, interpolate_pos_encoding)
        return batch

    def encode(self, batch: BatchInput, maps: bool = False) -> BodyStates:
        """The plain pass, through the model's own modules; with `maps` the cross-modal layers' self-attention."""
        text_states, image_states = self._text_states(batch), self._image_states(batch)
        visual, depth = self.vision_model.visual, self.config.num_hidden_layers
        stop = self.config.vision_config.stop_gradient
        text_type = self.token_type_embeddings.weight[0]
        image_type = self.token_type_embeddings.weight[batch.image_type]
        text = image = text_states[0]
        cross_states, attentions = [], []
        for layer in range(depth):
            place = layer - depth
            below = image_states[place].detach() if stop else image_states[place]
            text_in = of_layer(self.cross_modal_text_transform, layer)(text_states[place]) + text_type
            image_in = of_layer(self.cross_modal_image_transform, layer)(visual.forward_post(below)) + image_type
            if layer == 0:
                text_in = self.cross_modal_text_layernorm(text_in)
                image_in = self.cross_modal_image_layernorm(image_in)
            else:
                text_in = of_layer(self.cross_modal_text_link_tower, layer - 1)(text_in, text)
                image_in = of_layer(self.cross_modal_image_link_tower, layer - 1)(image_in, image)
            run = self.cross_modal_text_layers[layer], self.cross_modal_image_layers[layer]
            text, text_map, _ = run_layer(self._recomputes, run[0], text_in, image_in, batch.keep, None, maps)
            image, image_map, _ = run_layer(self._recomputes, run[1], image_in, text_in, None, batch.keep, maps)
            cross_states.append((text, image))
            attentions.append((text_map, image_map))
        pooled = self.get_cls_features(text, image)
        return BodyStates(text, image, pooled, text_states, image_states, tuple(cross_states), tuple(attentions))

    def get_cls_features(self, text_features: Tensor, image_features: Tensor) -> Tensor:
        """The pooled pair (B, 2h) of features (B, T, h) and (B, P, h)."""
        pooled = self.cross_modal_text_pooler(text_features), self.cross_modal_image_pooler(image_features)
        return torch.cat(pooled, dim=-1)

    @property
    def _recomputes(self) -> bool:
        return self._recompute and self.training

    def _text_states(self, batch: BatchInput) -> tuple[Tensor, ...]:
        """The embedded ids and each layer's states, (B, T, w)."""
        states = [self.text_model.embeddings(batch.input_ids)]
        for layer in self.text_model.encoder.layer:
            states.append(run_layer(self._recomputes, layer, states[-1], batch.keep))
        return tuple(states)

    def _image_states(self, batch: BatchInput) -> tuple[Tensor, ...]:
        """The embedded patches and each block's states, (P, B, w), as deep as the text tower is."""
        visual = self.vision_model.visual
        if batch.image_embeds is not None:
            states = [batch.image_embeds.to(self.vision_model.dtype).transpose(0, 1)]
        else:
            assert batch.pixel_values is not None
            states = [visual.forward_pre(batch.pixel_values, batch.interpolate)]
        for block in visual.blocks[: self.config.vision_depth]:
            states.append(run_layer(self._recomputes, block, states[-1]))
        return tuple(states)


def _features(states: BodyStates) -> tuple[Tensor, ...]:
    return states.text_features, states.image_features, states.pooler_output
