"""The authors' own training files (PyTorch Lightning, microsoft/BridgeTower) made into checkpoints in the hub's layout.

They differ from the hub's checkpoints in more than names, and config.json says so (see `BridgeTowerConfig`): the
cross layers and the MLM transform have a LayerNorm epsilon of 1e-12, and the ITC image embedding is taken straight
from the vision tower. Sizes are read off the tensors; only what tensors can't tell comes from the hyper-parameters in
the file.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.bridgetower.configuration import LARGEST_SIDE, BridgeTowerConfig
from bt_cli.checkpoints.hub_layout import HubLayout, canonical_name, heads_in
from bt_cli.checkpoints.saving import HubTensor, write_checkpoint
from bt_cli.errors import BadConfig, BadTokenizer, BrokenCheckpoint, CheckpointMismatch, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.weight_files.pickle_file import holds_named_tensors, is_archive, load_pickle, want_plain
from bt_cli.weight_files.safetensors_file import DTYPE_CODES, TensorEntry

if TYPE_CHECKING:
    import torch

    from bt_cli.preprocessing.tokenizer import Tokenizer

ORIGINAL_EPS = 1e-12
"""LayerNorm epsilon of the original's cross layers and MLM transform, which follow BERT's; all others have 1e-5."""

POSITIONS = "bridgetower.vision_model.visual.embeddings.position_embedding.weight"
PATCHES = "bridgetower.vision_model.visual.embeddings.patch_embedding.weight"

_RENAMED = {
    "vit_model.visual.class_embedding": "bridgetower.vision_model.visual.embeddings.class_embedding",
    "vit_model.visual.positional_embedding": POSITIONS,
    "vit_model.visual.conv1.weight": PATCHES,
}
_MOVED = {"vit_model.visual.": "bridgetower.vision_model.visual.", "text_transformer.": "bridgetower.text_model."}

# CLIP's text side, of which the files carry remains, and a buffer.
_REMAINS = ("vit_model.positional_embedding", "vit_model.ln_final.", "text_transformer.embeddings.position_ids")
_TEMPERATURE = "temperature"


def convert(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    pipeline: str | None = None,
    tokenizer: Tokenizer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the Lightning checkpoint `file` to the folder `out` in the hub's layout, weights as they are stored.

    `image_size` resizes the position table for another input size in pixels; `pipeline` ("crop" or "squash") says how
    images are brought to it (default: squash for retrieval fine-tuning, as its evaluation did, else crop). Heads that
    the hub has no place for are left out with a warning that names them. Raises NotFound, BrokenCheckpoint,
    UnsafePickle, CheckpointMismatch, BadConfig, BadTokenizer or Unwritable.
    """
    import torch

    from bt_cli.preprocessing.image_processor import ImageProcessor

    path = Path(file)
    state, settings = _read(path)
    tensors, left_out = _rename(path, state)
    if left_out:
        warnings.warn(f"{shown_path(path)}: left out, as nothing here uses it: {', '.join(left_out)}", stacklevel=2)
    config = _configuration(path, tensors, settings)
    _check(path, config, tensors)
    if tokenizer is not None and tokenizer.vocab_size > config.text_config.vocab_size:
        raise BadTokenizer(
            f"{shown_path(path)} has {config.text_config.vocab_size} words, the tokenizer {tokenizer.vocab_size}; "
            "they are not of one model"
        )
    if image_size is not None:
        tensors[POSITIONS], config = _at_size(tensors[POSITIONS], config, image_size)
    side = min(config.vision_config.image)
    pipeline = pipeline or ("squash" if _is_retrieval(settings) else "crop")
    size = {"height": side, "width": side} if pipeline == "squash" else {"shortest_edge": side}
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    write_checkpoint(
        out,
        config,
        {name: HubTensor(tuple(tensor.shape), tensor.detach) for name, tensor in tensors.items()},
        dtype=dtypes.pop() if len(dtypes) == 1 else torch.float32,
        preprocessing=ImageProcessor.from_dict({"size": size}, pipeline=pipeline).to_dict(),
        save_tokenizer=None if tokenizer is None else tokenizer.save,
        progress=progress,
    )


def _read(path: Path) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
    """The file's tensors, left on disk where its format allows it, and its hyper-parameters."""
    if path.is_dir():
        raise NotFound(f"{shown_path(path)} is a folder; name the Lightning file in it")
    if not path.is_file():
        raise NotFound(f"{shown_path(path)}: no such file")
    content = load_pickle(path, mapped=is_archive(path))
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not holds_named_tensors(state):
        raise BrokenCheckpoint(f"{shown_path(path)} is no Lightning checkpoint: it has no state_dict of tensors")
    want_plain(path, state)
    if not any(name.startswith("vit_model.visual.") for name in state):
        raise BrokenCheckpoint(
            f"{shown_path(path)} is no original BridgeTower with a CLIP vision tower: it has no vit_model.visual.*"
        )
    hyper = content.get("hyper_parameters")
    settings = hyper.get("config", hyper) if isinstance(hyper, Mapping) else {}
    return state, settings if isinstance(settings, Mapping) else {}


def _rename(path: Path, state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors under the hub's names, and the heads that have none (`rank_output`, `vqa_classifier`, ...)."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    left_out: dict[str, None] = {}
    for name, tensor in state.items():
        if name.startswith(_REMAINS):
            continue
        if name == _TEMPERATURE:
            if tensor.numel() != 1:
                raise CheckpointMismatch(f"{shown_path(path)}: {name} holds {tensor.numel()} numbers instead of one")
            tensors["logit_scale"] = torch.log(1.0 / tensor.detach().float()).reshape(())
            continue
        moved = next((new + name[len(old) :] for old, new in _MOVED.items() if name.startswith(old)), name)
        hub_name = _RENAMED.get(name) or canonical_name(moved)
        if hub_name is None:
            left_out[name.partition(".")[0]] = None
        else:
            tensors[hub_name] = tensor.detach()
    if "itc" not in heads_in(tensors):
        tensors.pop("logit_scale", None)
    return tensors, list(left_out)


def _configuration(path: Path, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> BridgeTowerConfig:
    """What the tensors' shapes and names say, completed by the hyper-parameters."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise CheckpointMismatch(f"{shown_path(path)} lacks {name}, without which its sizes can't be told")
        found = tuple(tensors[name].shape)
        if len(found) != dimensions:
            raise CheckpointMismatch(f"{shown_path(path)}: {name} {found} has to have {dimensions} dimensions")
        return found

    def count(pattern: str) -> int:
        numbers = [int(found[1]) for name in tensors if (found := re.match(pattern, name))]
        return max(numbers, default=-1) + 1

    text, visual = "bridgetower.text_model", "bridgetower.vision_model.visual"
    words, text_width = shape(f"{text}.embeddings.word_embeddings.weight", 2)
    vision_width, channels, patch, _ = shape(PATCHES, 4)
    positions = shape(POSITIONS, 2)[0]
    side = math.isqrt(positions - 1)
    if side * side != positions - 1:
        raise CheckpointMismatch(f"{shown_path(path)}: {positions - 1} patch positions make no square")
    depth = count(r"bridgetower\.cross_modal_text_layers\.(\d+)\.")
    width = shape("bridgetower.cross_modal_text_pooler.dense.weight", 2)[0]
    blocks = count(rf"{re.escape(visual)}\.transformer\.resblocks\.(\d+)\.")
    removed = bool(settings.get("vit_remove_last", False))
    heads = settings.get("num_heads") or width // 64
    itc = "itc_text_head.fc.weight" in tensors
    values: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "link_tower_type": _link_tower_type(tensors, settings),
        "share_link_tower_layers": "bridgetower.cross_modal_text_link_tower.LayerNorm.weight" in tensors,
        "share_cross_modal_transformer_layers": "bridgetower.cross_modal_text_transform.weight" in tensors,
        "init_layernorm_from_vision_encoder": bool(settings.get("vit_layernorm_init_from_vit", False)),
        "contrastive_hidden_size": shape("itc_text_head.fc.weight", 2)[0] if itc else None,
        "cross_layer_norm_eps": ORIGINAL_EPS,
        "mlm_layer_norm_eps": ORIGINAL_EPS,
        "itc_image_path": "tower",
        "token_types": shape("bridgetower.token_type_embeddings.weight", 2)[0],
        "text_config": {
            "vocab_size": words,
            "hidden_size": text_width,
            "num_hidden_layers": count(rf"{re.escape(text)}\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": heads if text_width == width else text_width // 64,
            "intermediate_size": shape(f"{text}.encoder.layer.0.intermediate.dense.weight", 2)[0],
            "max_position_embeddings": shape(f"{text}.embeddings.position_embeddings.weight", 2)[0],
            "type_vocab_size": shape(f"{text}.embeddings.token_type_embeddings.weight", 2)[0],
        },
        "vision_config": {
            "hidden_size": vision_width,
            "num_hidden_layers": blocks + removed,
            "num_channels": channels,
            "patch_size": patch,
            "image_size": side * patch,
            "share_layernorm": f"{visual}.ln_separate.0.weight" not in tensors,
            "remove_last_layer": removed,
        },
    }
    if "logit_scale" in tensors:
        values["logit_scale_init_value"] = float(tensors["logit_scale"])
    try:
        return BridgeTowerConfig.from_dict(values)
    except BadConfig as error:  # there is no config.json yet: these are the file's own sizes and hyper-parameters
        raise BadConfig(f"{shown_path(path)}: {str(error).removeprefix('config.json: ')}") from None


def _link_tower_type(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> str:
    if any(name.endswith(".scaled_factor") for name in tensors):
        return "scaled_add"
    if any(name.endswith(".beta") for name in tensors):
        return "interpolate"
    return str(settings.get("link_tower_type") or "add")


def _check(path: Path, config: BridgeTowerConfig, tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse a file that lacks a tensor before anything is written."""
    from bt_cli.checkpoints.meta_network import meta_network
    from bt_cli.checkpoints.weight_loading import check_plan

    network = meta_network(config, heads_in(tensors))
    plan = HubLayout(config).plan({name: tuple(each.shape) for name, each in network.named_parameters()})
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    entries = {
        name: TensorEntry(tuple(tensor.shape), DTYPE_CODES.get(dtypes[name], dtypes[name]))
        for name, tensor in tensors.items()
    }
    check_plan(plan, entries, where=str(path), against="the sizes of its other tensors")


def _at_size(table: torch.Tensor, config: BridgeTowerConfig, image_size: int) -> tuple[torch.Tensor, BridgeTowerConfig]:
    """The position table and the configuration for another input size."""
    from bt_cli.bridgetower.vision_tower import resize_positions

    patch = config.vision_config.patch[0]
    if image_size < patch or image_size % patch:
        raise BadConfig(f"image size {image_size} is no multiple of the patch size {patch}")
    if image_size > LARGEST_SIDE:
        raise BadConfig(f"image size {image_size} is more than {LARGEST_SIDE:,} pixels")
    old = config.vision_config.grid
    config.vision_config.image_size = image_size
    return resize_positions(table, old, config.vision_config.grid), config


def _is_retrieval(settings: Mapping[str, Any]) -> bool:
    """Whether the file comes from fine-tuning for retrieval, whose images were squashed rather than cropped."""
    losses = settings.get("loss_names")
    named = [name for name, on in losses.items() if on] if isinstance(losses, Mapping) else []
    return any("irtr" in str(name) for name in [*named, settings.get("group_name", "")])
