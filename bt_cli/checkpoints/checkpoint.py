"""A checkpoint: what a name stands for, what it can do, and a network filled with as much of it as is needed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.bridgetower.configuration import LARGEST_SIDE, BridgeTowerConfig
from bt_cli.checkpoints.fingerprint import fingerprint
from bt_cli.checkpoints.hub_cache import IMAGE_SETTINGS
from bt_cli.checkpoints.hub_layout import canonical_name, heads_in
from bt_cli.checkpoints.locating import locate
from bt_cli.checkpoints.safetensors_file import TensorEntry
from bt_cli.checkpoints.tensor_files import TensorFiles
from bt_cli.errors import BadConfig, BadTokenizer, CheckpointMismatch, MissingHead
from bt_cli.shown_path import shown_path

if TYPE_CHECKING:
    import torch

    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.preprocessing.image_processor import ImageProcessor
    from bt_cli.preprocessing.tokenizer import Tokenizer

HEAD_NAMES = {"itc": "ITC (embeddings for search)", "itm": "ITM (matching)", "mlm": "MLM (masked words)"}
"""The heads that commands ask for, in the order in which they are listed."""


class Checkpoint:
    """A folder in hub layout, opened: its configuration and headers are read, no weights.

    `name` is what it was asked for by, `folder` where it lies, `config` as in its config.json, with
    `contrastive_hidden_size` read off the tensors where the file has none. `files` gives any tensor by the name it
    has there.
    """

    def __init__(self, name: str, folder: Path, *, image_size: int | None = None) -> None:
        self.name = name
        self.folder = folder
        self.files = TensorFiles.in_folder(folder)
        self.tensor_names = _canonical_names(self.files)
        self.heads: set[str] = heads_in(self.tensor_names)
        self.config = _with_read_off_sizes(BridgeTowerConfig.read(folder), self)
        self.native_grid = self.config.vision_config.grid
        self._image_size = image_size
        if image_size is not None:
            self.config.vision_config = _resized(self.config, image_size)

    @classmethod
    def open(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        image_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Checkpoint:
        """Open what `name` stands for: `tiny` (bundled), a folder in hub layout, or a hub name, fetched if not cached.

        `image_size` is another input size in pixels (square) than the checkpoint's own. `progress` hears (bytes done,
        bytes in all) of a download. Raises UnknownModel, NotFound, Offline, DownloadFailed, BadConfig,
        BrokenCheckpoint, CheckpointMismatch (no tensor is a BridgeTower's) or UnsafePickle.
        """
        folder = locate(str(name), revision=revision, token=token, progress=progress)
        return cls(str(name), folder, image_size=image_size)

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint's own tensors hold; buffers and foreign heads do not count."""
        return sum(self.entry(name).elements for name in self.tensor_names)

    @property
    def image_size(self) -> int | list[int]:
        """The input size in pixels: one number, or [height, width]."""
        return self.config.vision_config.image_size

    @property
    def embedding_dim(self) -> int | None:
        """Dimension of the ITC embeddings, None without that head."""
        return self.config.contrastive_hidden_size if "itc" in self.heads else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the weights, the configuration or the preprocessing; see `fingerprint.py`."""
        config = self.config.to_dict()
        known = {name: config[name] for name in config if name not in self.config.extra}
        for section in ("text_config", "vision_config"):
            extra = getattr(self.config, section).extra
            known[section] = {name: value for name, value in config[section].items() if name not in extra}
        settings = {"config": known, "images": self.image_processor().fingerprint()}
        return fingerprint(self.files, self.tensor_names, settings)

    def entry(self, name: str) -> TensorEntry:
        """Shape and dtype of a tensor by its canonical name (see `hub_layout.canonical_name`)."""
        return self.files.entries[self.tensor_names[name]]

    def require(self, heads: Collection[str]) -> None:
        """Raise `MissingHead` unless the checkpoint has all of these heads."""
        for head in heads:
            if head not in self.heads:
                have = ", ".join(name.upper() for name in HEAD_NAMES if name in self.heads) or "none"
                raise MissingHead(f"{self.name} has no {head.upper()} head (its heads: {have}); {_FOR_HEAD[head]}")

    def image_processor(self, pipeline: str | None = None) -> ImageProcessor:
        """The image processor that the folder describes; `pipeline` ("crop", "squash") goes over what it says."""
        from bt_cli.preprocessing.image_processor import ImageProcessor

        settings = self._preprocessing()
        size = self.config.vision_config.image
        if self._image_size is not None:
            pipeline = pipeline or ImageProcessor.from_dict(settings).settings.pipeline
            settings = {
                name: value for name, value in settings.items() if name not in ("size", "crop_size", "image_size")
            }
        return ImageProcessor.from_dict(settings, min(size), pipeline=pipeline)

    def tokenizer(self) -> Tokenizer:
        """The folder's tokenizer; raises `BadTokenizer` where there is none or its ids leave the word table."""
        from bt_cli.preprocessing.tokenizer import Tokenizer

        text = self.config.text_config
        tokenizer = Tokenizer.from_folder(self.folder, max_length=text.max_tokens)
        if tokenizer.vocab_size > text.vocab_size:
            raise BadTokenizer(
                f"{shown_path(self.folder)}: the tokenizer has {tokenizer.vocab_size} words, "
                f"the checkpoint {text.vocab_size}; they are not of one model"
            )
        return tokenizer

    def network(
        self,
        heads: Collection[str] | None = None,
        towers: Collection[str] | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> BridgeTower:
        """The network in eval mode with these heads (default: all the checkpoint has) and towers ("text", "vision",
        "cross"; default: all), in `dtype` (default float32) on `device`. Only the tensors of these parts are read.

        Raises `MissingHead` for a head it lacks, `CheckpointMismatch` for tensors that are missing or mis-shaped.
        """
        from bt_cli.checkpoints.filling import filled_network

        wanted = self.heads if heads is None else set(heads)
        self.require(wanted - {"itc_cross"})
        return filled_network(self, wanted & self.heads, towers, dtype, device)

    def _preprocessing(self) -> dict[str, Any]:
        for name in IMAGE_SETTINGS:
            path = self.folder / name
            if path.is_file():
                try:
                    settings = json.loads(path.read_text("utf-8"))
                except (ValueError, RecursionError) as error:
                    raise BadConfig(f"{shown_path(path)}: not valid JSON ({error}); fetch the file again") from None
                if not isinstance(settings, dict):
                    raise BadConfig(f"{shown_path(path)}: a JSON object is needed")
                return settings
        return {}


_NAMED = "names have to be as transformers' BridgeTower has them (text_model.*, cross_modal_*)"
_FOR_HEAD = {
    "itc": "for search use one that has it, such as BridgeTower/bridgetower-large-itm-mlm-itc or tiny",
    "itm": "for reranking and scoring use one that has it, such as BridgeTower/bridgetower-large-itm-mlm or tiny",
    "mlm": "for masked words use one that has it, such as BridgeTower/bridgetower-large-itm-mlm or tiny",
}


def _canonical_names(files: TensorFiles) -> dict[str, str]:
    """Canonical name to the name in the file, of every tensor that a network has a place for; at least one."""
    names: dict[str, str] = {}
    for name in files.entries:
        canonical = canonical_name(name)
        if canonical is not None:
            names[canonical] = name
    if not names:
        beginnings = list(dict.fromkeys(".".join(name.split(".")[:2])[:40] for name in files.entries))
        known = ", ".join(map(repr, beginnings[:3])) + (" ..." if len(beginnings) > 3 else "")
        what = f"its names begin with {known}" if known else "it has none at all"
        raise CheckpointMismatch(f"{shown_path(files.paths[0])} holds no tensor of a BridgeTower: {what}; {_NAMED}")
    return names


def _with_read_off_sizes(config: BridgeTowerConfig, checkpoint: Checkpoint) -> BridgeTowerConfig:
    """The embedding's dimension stands in the tensors; a config may lack it."""
    if "itc" in checkpoint.heads:
        config.contrastive_hidden_size = checkpoint.entry("itc_text_head.fc.weight").shape[0]
    return config


def _resized(config: BridgeTowerConfig, image_size: int) -> Any:
    patch = max(config.vision_config.patch)
    if image_size < patch:
        raise BadConfig(f"image size {image_size} is less than one patch of {patch} pixels")
    if image_size > LARGEST_SIDE:
        raise BadConfig(f"image size {image_size} is more than {LARGEST_SIDE:,} pixels")
    return dataclasses.replace(config.vision_config, image_size=image_size)
