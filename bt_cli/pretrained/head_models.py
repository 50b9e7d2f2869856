"""The three models with a head: image-text matching, masked words, and image-text contrast."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bt_cli.bridgetower.attention import activation_by_name
from bt_cli.bridgetower.configuration import BridgeTowerConfig as NetworkConfig
from bt_cli.bridgetower.heads import MatchingHead
from bt_cli.bridgetower.losses import itc_loss, itm_loss, mlm_loss
from bt_cli.errors import BadInput
from bt_cli.pretrained.batch_input import BatchInput
from bt_cli.pretrained.configuration import BridgeTowerConfig
from bt_cli.pretrained.layers import of_layer
from bt_cli.pretrained.model import BodyStates, BridgeTowerModel
from bt_cli.pretrained.outputs import BridgeTowerContrastiveOutput, MaskedLMOutput, SequenceClassifierOutput
from bt_cli.pretrained.pretrained_model import BridgeTowerPreTrainedModel


class BridgeTowerForImageAndTextRetrieval(BridgeTowerPreTrainedModel):
    """Says of an image and a text whether they match: `logits` (B, 2), of which column 1 is "they do"."""

    heads: ClassVar[frozenset[str]] = frozenset({"itm"})

    def __init__(self, config: BridgeTowerConfig | NetworkConfig) -> None:
        super().__init__(config)
        self.bridgetower = BridgeTowerModel(self.config)
        self.itm_score = MatchingHead(self.config)
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
        labels: Tensor | None = None,
        image_token_type_idx: int | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """B pairs; `labels` (B,) int64, 1 where they match, 0 where they don't, add `loss`. The rest as
        `BridgeTowerModel.forward`, what it raises included."""
        arguments = (image_embeds, inputs_embeds, image_token_type_idx, interpolate_pos_encoding)
        batch = self.bridgetower.checked(input_ids, attention_mask, pixel_values, *arguments)
        hidden, maps = self._wants(output_hidden_states, output_attentions)
        logits, extra = None, {}
        if not hidden and not maps:
            made = self._fast_results(
                batch,
                "pooled",
                lambda network, made: (network.itm_logits(cast(Tensor, made.fusion.pooler_output)),),
                lambda: (self._logits(self.bridgetower.encode(batch)),),
            )
            logits = None if made is None else made[0]
        if logits is None:
            states = self.bridgetower.encode(batch, maps)
            logits, extra = self._logits(states), states.asked_for(hidden, maps)
        loss = None
        if labels is not None:
            if labels.numel() != len(logits):
                raise BadInput(f"{labels.numel()} labels for {len(logits)} pairs; each pair has one, 0 or 1")
            loss = itm_loss(logits, labels.reshape(-1).to(logits.device))
        return self._returned(SequenceClassifierOutput(loss=loss, logits=logits, **extra), return_dict)

    def _logits(self, states: BodyStates) -> Tensor:
        return self.itm_score(states.pooler_output).to(states.pooler_output.dtype)


class WordTransform(nn.Module):
    """What a text's features go through before they are compared with words."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = activation_by_name(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.mlm_eps)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, h) to (B, T, h)."""
        return self.LayerNorm(self.transform_act_fn(self.dense(states)))


class WordScore(nn.Module):
    """Text features (B, T, h) to logits over the vocabulary (B, T, V)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        vocabulary = config.text_config.vocab_size
        self.transform = WordTransform(config)
        self.decoder = nn.Linear(config.hidden_size, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, h) to (B, T, V)."""
        return self.decoder(self.transform(states)) + self.bias


class BridgeTowerForMaskedLM(BridgeTowerPreTrainedModel):
    """Fills masked words of a text by its image: `logits` (B, T, V) over the vocabulary."""

    heads: ClassVar[frozenset[str]] = frozenset({"mlm"})

    def __init__(self, config: BridgeTowerConfig | NetworkConfig) -> None:
        super().__init__(config)
        self.bridgetower = BridgeTowerModel(self.config)
        self.mlm_score = WordScore(self.config)
        self._built()

    def get_output_embeddings(self) -> nn.Module:
        """The product from features to words."""
        return self.mlm_score.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another in its place."""
        self.mlm_score.decoder = new_embeddings  # type: ignore[assignment]

    def _resize_output(self, count: int, mean_resizing: bool) -> None:
        self._resize_rows(self.mlm_score.decoder, count, mean_resizing)
        old = self.mlm_score.bias
        with torch.no_grad():
            new = old.new_zeros(count)
            kept = min(count, len(old))
            new[:kept] = old[:kept]
        self.mlm_score.bias = nn.Parameter(new, requires_grad=old.requires_grad)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        image_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        image_token_type_idx: int | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """B pairs; `labels` (B, T) int64, the right ids, -100 where none counts, add `loss`. The rest as
        `BridgeTowerModel.forward`, what it raises included. Without a single label that counts the loss is 0."""
        arguments = (image_embeds, inputs_embeds, image_token_type_idx, interpolate_pos_encoding)
        batch = self.bridgetower.checked(input_ids, attention_mask, pixel_values, *arguments)
        hidden, maps = self._wants(output_hidden_states, output_attentions)
        logits, extra = None, {}
        if not hidden and not maps:
            made = self._fast_results(
                batch,
                "text",
                lambda network, made: (network.mlm_logits(cast(Tensor, made.fusion.text_features)),),
                lambda: (self.mlm_score(self.bridgetower.encode(batch).text_features),),
            )
            logits = None if made is None else made[0]
        if logits is None:
            states = self.bridgetower.encode(batch, maps)
            logits, extra = self.mlm_score(states.text_features), states.asked_for(hidden, maps)
        loss = None
        if labels is not None:
            if labels.shape != logits.shape[:2]:
                raise BadInput(f"labels have the shape {tuple(labels.shape)}, input_ids {tuple(logits.shape[:2])}")
            loss = mlm_loss(logits, labels.to(logits.device))
        return self._returned(MaskedLMOutput(loss=loss, logits=logits, **extra), return_dict)


class ContrastiveProjection(nn.Module):
    """One product; see `bridgetower.heads.ContrastiveHead` for what becomes of it."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, dimension)

    def forward(self, states: Tensor) -> Tensor:
        """(B, w) to (B, d)."""
        return self.fc(states)


class BridgeTowerForContrastiveLearning(BridgeTowerPreTrainedModel):
    """Embeds texts, images and pairs of them: `text_embeds`, `image_embeds`, `cross_embeds` (B, d) of norm 1."""

    heads: ClassVar[frozenset[str]] = frozenset({"itc", "itc_cross"})

    def __init__(self, config: BridgeTowerConfig | NetworkConfig) -> None:
        super().__init__(config)
        config = self.config
        dimension = config.contrastive_hidden_size or config.hidden_size
        tower = config.itc_image_path == "tower"
        self.bridgetower = BridgeTowerModel(config)
        self.itc_text_head = ContrastiveProjection(config.text_config.hidden_size, dimension)
        image_width = config.vision_config.hidden_size if tower else config.hidden_size
        self.itc_image_head = ContrastiveProjection(image_width, dimension)
        self.itc_cross_modal_head = ContrastiveProjection(2 * config.hidden_size, dimension)
        self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
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
        return_loss: bool | None = None,
        image_token_type_idx: int | None = None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BridgeTowerContrastiveOutput | tuple[Any, ...]:
        """B pairs; `return_loss` adds the contrastive loss, in which row i of each side belongs to row i of the others.
        The rest as `BridgeTowerModel.forward`, what it raises included."""
        arguments = (image_embeds, inputs_embeds, image_token_type_idx, interpolate_pos_encoding)
        batch = self.bridgetower.checked(input_ids, attention_mask, pixel_values, *arguments)
        hidden, maps = self._wants(output_hidden_states, output_attentions)
        embeds, extra = None, {}
        if not hidden and not maps:
            embeds = self._fast_results(
                batch,
                "pooled",
                lambda network, made: (
                    cast(Tensor, made.text_embeds),
                    cast(Tensor, made.image_embeds),
                    network.cross_embeds(cast(Tensor, made.fusion.pooler_output)),
                ),
                lambda: self._embeds(batch, self.bridgetower.encode(batch)),
            )
        if embeds is None:
            states = self.bridgetower.encode(batch, maps)
            embeds, extra = self._embeds(batch, states), states.asked_for(hidden, maps)
        text, image, cross = embeds
        output = BridgeTowerContrastiveOutput(
            loss=itc_loss(text, image, cross, self.logit_scale) if return_loss else None,
            logits=torch.stack([text, image, cross], dim=-2),
            text_embeds=text,
            image_embeds=image,
            cross_embeds=cross,
            **extra,
        )
        return self._returned(output, return_dict)

    def _embeds(self, batch: BatchInput, states: BodyStates) -> tuple[Tensor, ...]:
        body = self.bridgetower
        image = body.vision_model.visual.forward_post(states.image_states[-1][:1])[:, 0]
        if self.config.itc_image_path == "bridged":
            image = of_layer(body.cross_modal_image_transform, -1)(image) + body.token_type_embeddings.weight[1]
        made = (
            self.itc_text_head(states.text_states[-1][:, 0]),
            self.itc_image_head(image),
            self.itc_cross_modal_head(states.pooler_output),
        )
        return tuple(F.normalize(each.float(), dim=-1).to(each.dtype) for each in made)
