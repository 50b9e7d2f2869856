"""A checkpoint: what a name stands for, what it can do, and a network filled with as much of it as is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.bridgetower.configuration import LARGEST_SIDE, BridgeTowerConfig
from bt_cli.checkpoints.combination import kept_combination
from bt_cli.checkpoints.hub_layout import heads_in
from bt_cli.checkpoints.named_tensors import NamedTensors
from bt_cli.checkpoints.resolve import resolve
from bt_cli.errors import BadConfig, BadTokenizer, BrokenCheckpoint, MissingHead, NotFound
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.files.shown_path import shown_path
from bt_cli.hub.hub_cache import IMAGE_SETTINGS
from bt_cli.hub.model_names import is_hub_name
from bt_cli.weight_files.fingerprint import fingerprint
from bt_cli.weight_files.tensor_files import TensorFiles

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
    has there, `tensors` those of a BridgeTower by their canonical names.
    """

    def __init__(self, name: str, folder: Path, *, image_size: int | None = None) -> None:
        self.name = name
        self.folder = folder
        self.files = TensorFiles.in_folder(folder)
        self.tensors = NamedTensors(self.files)
        self.heads: set[str] = heads_in(self.tensors.names)
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
        folder = resolve(str(name), revision=revision, token=token, progress=progress)
        with _mended_by_download(str(name)):
            return cls(str(name), folder, image_size=image_size)

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint's own tensors hold; buffers and foreign heads do not count."""
        return sum(self.tensors.entry(name).elements for name in self.tensors.names)

    @property
    def image_size(self) -> int | list[int]:
        """The input size in pixels: one number, or [height, width]."""
        return self.config.vision_config.image_size

    @property
    def embedding_dim(self) -> int | None:
        """Dimension of the ITC embeddings, None without that head."""
        return self.config.contrastive_hidden_size if "itc" in self.heads else None

    @property
    def combine(self) -> str:
        """How its reranking orders pairs where nothing else is said: one of `combination.COMBINATIONS`."""
        return kept_combination(self.config.extra)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the weights, the configuration or the preprocessing; see `fingerprint.py`."""
        config = self.config.to_dict()
        known = {name: config[name] for name in config if name not in self.config.extra}
        for section in ("text_config", "vision_config"):
            extra = getattr(self.config, section).extra
            known[section] = {name: value for name, value in config[section].items() if name not in extra}
        settings = {"config": known, "images": self.image_processor().fingerprint()}
        return fingerprint(self.files, self.tensors.names, settings)

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
        with _mended_by_download(self.name):
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
        from bt_cli.checkpoints.weight_loading import load_weights

        wanted = self.heads if heads is None else set(heads)
        self.require(wanted - {"itc_cross"})
        with _mended_by_download(self.name):
            return load_weights(
                self.tensors,
                self.config,
                wanted & self.heads,
                towers,
                dtype,
                device,
                native_grid=self.native_grid,
                where=str(self.name),
            )

    def _preprocessing(self) -> dict[str, Any]:
        for name in IMAGE_SETTINGS:
            if (self.folder / name).exists():
                with _mended_by_download(self.name):
                    return read_json_object(
                        self.folder / name, BadConfig, way_out="fetch the file again", limit=SETTINGS
                    )
        return {}


@contextlib.contextmanager
def _mended_by_download(name: str) -> Iterator[None]:
    """A file of the hub's cache that can't be read is mended by one command: the error names it."""
    try:
        yield
    except (BrokenCheckpoint, BadConfig, BadTokenizer, NotFound) as error:
        if not is_hub_name(name) or Path(name).is_dir():
            raise
        command = f"bt models download {name}"
        raise type(error)(f"{error}; `{command}` compares the cache with the hub and mends it") from None


_FOR_HEAD = {
    "itc": "for search use one that has it, such as BridgeTower/bridgetower-large-itm-mlm-itc or tiny",
    "itm": "for reranking and scoring use one that has it, such as BridgeTower/bridgetower-large-itm-mlm or tiny",
    "mlm": "for masked words use one that has it, such as BridgeTower/bridgetower-large-itm-mlm or tiny",
}


def _with_read_off_sizes(config: BridgeTowerConfig, checkpoint: Checkpoint) -> BridgeTowerConfig:
    """The embedding's dimension stands in the tensors; a config may lack it."""
    if "itc" in checkpoint.heads:
        config.contrastive_hidden_size = checkpoint.tensors.entry("itc_text_head.fc.weight").shape[0]
    return config


def _resized(config: BridgeTowerConfig, image_size: int) -> Any:
    patch = max(config.vision_config.patch)
    if image_size < patch:
        raise BadConfig(f"image size {image_size} is less than one patch of {patch} pixels")
    if image_size > LARGEST_SIDE:
        raise BadConfig(f"image size {image_size} is more than {LARGEST_SIDE:,} pixels")
    return dataclasses.replace(config.vision_config, image_size=image_size)
