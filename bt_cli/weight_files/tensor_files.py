"""The weights of a checkpoint folder, whatever files they lie in: which files those are, and any tensor by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.errors import BrokenCheckpoint, NotFound
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.weight_files.pickle_file import PickleFile
from bt_cli.weight_files.safetensors_file import SafetensorsFile, TensorEntry

if TYPE_CHECKING:
    import numpy as np
    import torch

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
FLOATING = ("F64", "F32", "F16", "BF16")
PICKLE_INDEX = "pytorch_model.bin.index.json"

# In the order of preference: safetensors can carry no code and is read without unpickling.
WEIGHTS = (SAFETENSORS, SAFETENSORS_INDEX, PICKLE, PICKLE_INDEX)


def choose_weights(names: Collection[str]) -> str | None:
    """The weights file, or index of shards, to use among a folder's file names; None when there is none."""
    return next((name for name in WEIGHTS if name in names), None)


def shard_names(index: Path) -> list[str]:
    """The files that an index of shards names, each once; raises `BrokenCheckpoint` for an index that is none."""
    try:
        files = sorted(set(read_json_object(index, BrokenCheckpoint, limit=SETTINGS)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise BrokenCheckpoint(f"{index} is no index of weight files") from None
    if not files:
        raise BrokenCheckpoint(f"{index} names no weight files; get it again")
    for name in files:
        if not isinstance(name, str) or Path(name).name != name:
            raise BrokenCheckpoint(f"{index} names {name!r}, which is no file of this folder")
    return files


class TensorFiles:
    """Every tensor of a folder's weights, by the name it has in the file.

    `entries` is read from the files' headers; nothing else is read until `read_into`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.entries: dict[str, TensorEntry] = {}
        self._files: dict[str, SafetensorsFile | PickleFile] = {}
        for path in self.paths:
            if not path.is_file():
                raise NotFound(_why_not_there(path, of_several=len(self.paths) > 1))
            file = SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)
            self.entries.update(file.entries)
            self._files.update(dict.fromkeys(file.entries, file))

    @classmethod
    def in_folder(cls, folder: Path) -> TensorFiles:
        """The weights of `folder`, safetensors before pickles; raises `NotFound` where there are none."""
        chosen = choose_weights([path.name for path in folder.iterdir()])
        if chosen is None:
            raise NotFound(f"no weights in {folder}: none of {', '.join(WEIGHTS)}")
        names = shard_names(folder / chosen) if chosen.endswith(".json") else [chosen]
        return cls([folder / name for name in names])

    def read_into(self, name: str, destination: torch.Tensor) -> None:
        """Fill `destination` with the tensor, cast to the destination's dtype and device while it is read.

        `destination` is contiguous and has the tensor's number of elements.
        """
        self._files[name].read_into(name, destination)

    def can_map(self, name: str) -> bool:
        """Whether the tensor can be used where it lies; pickles have to be read by torch."""
        return isinstance(self._files[name], SafetensorsFile)

    def mapped(self, name: str) -> np.ndarray:
        """The tensor where it lies, of a file that `can_map`; see `SafetensorsFile.mapped`."""
        file = self._files[name]
        assert isinstance(file, SafetensorsFile)
        return file.mapped(name)

    def spans(self, name: str, spans: Sequence[tuple[int, int]]) -> bytes:
        """The tensor's stored bytes between the given byte offsets, one span after another."""
        return self._files[name].spans(name, spans)


def _why_not_there(path: Path, of_several: bool) -> str:
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which is not there; get the weights again"
    if path.exists():
        return f"{path} is no file; weights are wanted there"
    return f"{path} is missing; " + ("the index of shards names it" if of_several else "get the weights again")
