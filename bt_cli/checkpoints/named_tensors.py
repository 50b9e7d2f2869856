"""The tensors of a checkpoint by canonical names, whichever names and files they lie under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_cli.checkpoints.hub_layout import canonical_name
from bt_cli.errors import BrokenCheckpoint, CheckpointMismatch
from bt_cli.files.shown_path import shown_path
from bt_cli.weight_files.safetensors_file import TensorEntry
from bt_cli.weight_files.tensor_files import FLOATING, TensorFiles

if TYPE_CHECKING:
    import numpy as np
    import torch

_NAMED = "names have to be as transformers' BridgeTower has them (text_model.*, cross_modal_*)"


class NamedTensors:
    """The tensors of a checkpoint by their canonical names (see `hub_layout.canonical_name`), whatever the file calls
    them; those that no network has a place for are left out.

    Attributes:
        files: Where they lie.
        names: Canonical name to the name in the file.

    Raises:
        CheckpointMismatch: No tensor is a BridgeTower's.
        BrokenCheckpoint: One of them holds whole numbers.
    """

    def __init__(self, files: TensorFiles) -> None:
        self.files = files
        self.names: dict[str, str] = {}
        for name in files.entries:
            canonical = canonical_name(name)
            if canonical is None:
                continue
            # 8 bits are quantised weights, which loading refuses by that name.
            if files.entries[name].dtype not in (*FLOATING, "I8", "U8"):
                where, dtype = shown_path(files.paths[0].parent), files.entries[name].dtype
                raise BrokenCheckpoint(f"{where}: {name} is stored as {dtype}, but weights are floating; get it again")
            self.names[canonical] = name
        if not self.names:
            beginnings = list(dict.fromkeys(".".join(name.split(".")[:2])[:40] for name in files.entries))
            known = ", ".join(map(repr, beginnings[:3])) + (" ..." if len(beginnings) > 3 else "")
            what = f"its names begin with {known}" if known else "it has none at all"
            raise CheckpointMismatch(f"{shown_path(files.paths[0])} holds no tensor of a BridgeTower: {what}; {_NAMED}")

    def entry(self, name: str) -> TensorEntry:
        """Shape and dtype of a tensor by its canonical name."""
        return self.files.entries[self.names[name]]

    def can_map(self, name: str) -> bool:
        """Whether `mapped` gives this tensor."""
        return self.files.can_map(self.names[name])

    def mapped(self, name: str) -> np.ndarray:
        """A tensor by its canonical name, where it lies; see `SafetensorsFile.mapped`."""
        return self.files.mapped(self.names[name])

    def read_into(self, name: str, destination: torch.Tensor) -> None:
        """Fill `destination` with a tensor by its canonical name; see `TensorFiles.read_into`."""
        self.files.read_into(self.names[name], destination)
