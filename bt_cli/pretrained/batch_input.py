"""A model's inputs, looked at once: what can't be computed is said in one line, before anything is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.errors import BadInput


@dataclass
class BatchInput:
    """B pairs: `input_ids` (B, T) int64, `keep` (B, T) bool (None: nothing is padded), `pixel_values` (B, C, H, W), or
    instead of them `image_embeds` (B, P, w); `image_type` is the row of the token type table that images get."""

    input_ids: Tensor
    keep: Tensor | None
    pixel_values: Tensor | None
    image_embeds: Tensor | None
    image_type: int
    interpolate: bool

    @property
    def has_unseen_text(self) -> bool:
        """Whether the mask hides every token of some text."""
        return self.keep is not None and not bool(self.keep.any(dim=1).all())

    @property
    def differentiable(self) -> list[Tensor]:
        """The inputs that gradients are wanted of."""
        inputs = [self.pixel_values, self.image_embeds]
        return [each for each in inputs if each is not None and each.requires_grad]


def checked_batch(
    config: BridgeTowerConfig,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    pixel_values: Tensor | None,
    image_embeds: Tensor | None,
    inputs_embeds: Tensor | None,
    image_token_type_idx: int | None,
    interpolate_pos_encoding: bool,
) -> BatchInput:
    """The arguments of `forward` as a BatchInput. Raises BadInput, a ValueError, for what can't be computed."""
    if inputs_embeds is not None:
        raise BadInput("inputs_embeds is not taken: positions are counted from ids; pass input_ids instead")
    if input_ids is None:
        raise BadInput("input_ids is missing: a pair has a text; make both with the processor")
    if pixel_values is None and image_embeds is None:
        raise BadInput(
            "pixel_values is missing: a pair has an image; to encode texts alone use bt_cli.load(...).encode_texts"
        )
    _check_ids(config, input_ids)
    images = pixel_values if image_embeds is None else image_embeds
    assert images is not None
    _check_images(config, pixel_values, image_embeds)
    if len(images) != len(input_ids):
        raise BadInput(
            f"{len(input_ids)} texts and {len(images)} images: a batch holds pairs, as many of one as of the other; "
            "repeat an image for each of its texts (it is encoded once)"
        )
    keep = None
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            shapes = f"{tuple(attention_mask.shape)}, input_ids {tuple(input_ids.shape)}"
            raise BadInput(f"attention_mask has the shape {shapes}; they have to be the same")
        keep = attention_mask.to(torch.bool)
        if not torch.compiler.is_compiling() and bool(keep.all()):
            keep = None
    image_type = image_token_type_idx or 1
    if not 0 < image_type < config.token_types:
        raise BadInput(
            f"image_token_type_idx is {image_type}, but this model's types are 1 to {config.token_types - 1}"
        )
    return BatchInput(
        input_ids,
        keep,
        pixel_values if image_embeds is None else None,
        image_embeds,
        image_type,
        interpolate_pos_encoding,
    )


def _check_ids(config: BridgeTowerConfig, input_ids: Tensor) -> None:
    text = config.text_config
    if input_ids.dim() != 2 or input_ids.is_floating_point():
        raise BadInput(f"input_ids is {input_ids.dtype} {tuple(input_ids.shape)}, but has to be int64 (texts, tokens)")
    if input_ids.shape[1] > text.max_tokens:
        raise BadInput(
            f"a text of {input_ids.shape[1]} tokens; the model takes {text.max_tokens}: truncate in the processor"
        )
    if torch.compiler.is_compiling() or input_ids.device.type != "cpu" or not input_ids.numel():
        return
    low, high = (int(bound) for bound in input_ids.aminmax())
    if low < 0 or high >= text.vocab_size:
        wrong = low if low < 0 else high
        raise BadInput(
            f"input_ids holds {wrong}, the vocabulary ends at {text.vocab_size - 1}; is it this model's tokenizer?"
        )


def _check_images(config: BridgeTowerConfig, pixel_values: Tensor | None, image_embeds: Tensor | None) -> None:
    vision = config.vision_config
    if image_embeds is not None:
        if image_embeds.dim() != 3 or image_embeds.shape[2] != vision.hidden_size:
            wanted = f"(images, patches, {vision.hidden_size})"
            raise BadInput(f"image_embeds has the shape {tuple(image_embeds.shape)}, but has to be {wanted}")
    elif pixel_values is not None and (pixel_values.dim() != 4 or pixel_values.shape[1] != vision.num_channels):
        wanted = f"(images, {vision.num_channels}, height, width)"
        raise BadInput(f"pixel_values has the shape {tuple(pixel_values.shape)}, but has to be {wanted}")
