"""Reading a checkpoint's tensors straight into a network's memory: only those it needs, cast while they are read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.bridgetower.vision_tower import resize_positions
from bt_cli.checkpoints.hub_layout import TIED, HubLayout, Piece
from bt_cli.checkpoints.meta_network import meta_network
from bt_cli.checkpoints.named_tensors import NamedTensors
from bt_cli.errors import CheckpointMismatch
from bt_cli.weight_files.safetensors_file import TensorEntry

POSITIONS = "vision_tower.position_embedding"
WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")
"""What a parameter may be stored as. Whole numbers are quantised weights, whose scales are no part of the network."""
_LISTED = 6  # an error names this many tensors, then counts


def load_weights(
    tensors: NamedTensors,
    config: BridgeTowerConfig,
    heads: Collection[str],
    towers: Collection[str] | None,
    dtype: torch.dtype | None,
    device: str | torch.device,
    *,
    native_grid: tuple[int, int],
    where: str,
) -> BridgeTower:
    """A network in eval mode, its parameters read from `tensors`; `Checkpoint.network` is the way in.

    `native_grid` is the patch grid of the position table as stored, brought to that of `config`; `where` names the
    checkpoint in messages.
    """
    network = meta_network(config, heads, towers)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    plan = HubLayout(config).plan(_native_shapes(shapes, native_grid))
    entries = {name: tensors.entry(name) for name in tensors.names}
    check_plan(plan, entries, where=where, tied=config.tie_word_embeddings)
    reader = _Reader(tensors, config, native_grid, dtype or torch.float32, torch.device(device))
    # The largest first: what a file's format makes us hold beside a tensor weighs least while little else is held.
    filled = {
        name: reader.parameter(name, shapes[name], plan[name])
        for name in sorted(shapes, key=lambda name: -math.prod(shapes[name]))
    }
    network.load_state_dict(filled, strict=True, assign=True)
    return network.eval()


def check_plan(
    plan: Mapping[str, list[Piece]],
    entries: Mapping[str, TensorEntry],
    *,
    where: str,
    tied: bool = False,
    against: str = "its config.json",
) -> None:
    """Raise `CheckpointMismatch`, naming tensors, unless every piece is there in its shape and as floats."""
    pieces = {piece.hub_name: piece for pieces in plan.values() for piece in pieces}
    missing, misshaped = [], []
    for name, piece in pieces.items():
        entry = entries.get(_stored_name(name, entries, tied))
        if entry is None and not piece.optional:
            missing.append(f"{name} {_shape(piece.hub_shape)}")
        elif entry is not None and entry.shape != piece.hub_shape:
            misshaped.append(f"{name} is {_shape(entry.shape)} instead of {_shape(piece.hub_shape)}")
    complaints = [f"missing: {_some(missing)}"] if missing else []
    complaints += [f"mis-shaped: {_some(misshaped)}"] if misshaped else []
    if complaints:
        raise CheckpointMismatch(f"{where} does not fit {against}: {'; '.join(complaints)}")
    present = {name: entries[name] for name in pieces if name in entries}
    whole = [f"{name} ({entry.dtype})" for name, entry in present.items() if entry.dtype not in WEIGHT_DTYPES]
    if whole:
        raise CheckpointMismatch(
            f"{where} is quantised, which bt can't read: {_some(whole)}; take its weights in "
            f"{', '.join(WEIGHT_DTYPES)} (bt quantises by itself: --dtype int8)"
        )


class _Reader:
    """Makes one parameter after another in the wanted dtype and place."""

    def __init__(
        self,
        tensors: NamedTensors,
        config: BridgeTowerConfig,
        native_grid: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.tensors, self.config, self.native_grid = tensors, config, native_grid
        self.dtype, self.device = dtype, device

    def parameter(self, name: str, shape: tuple[int, ...], pieces: list[Piece]) -> torch.Tensor:
        if name == "logit_scale":
            return self._logit_scale(pieces[0])
        if name == POSITIONS:
            return self._positions(pieces[0], shape)
        target = torch.empty(shape, dtype=self.dtype, device=self.device)
        for piece in pieces:
            stored = self._stored(piece)
            if stored is None:  # carried and used by nothing
                target.zero_()
            elif piece.hub_rows is not None:
                whole = torch.empty(piece.hub_shape, dtype=self.dtype, device=self.device)
                self.tensors.read_into(stored, whole)
                target.copy_(whole[slice(*piece.hub_rows)])
            else:
                rows = target if piece.rows is None else target[slice(*piece.rows)]
                self.tensors.read_into(stored, rows.view(piece.hub_shape))
        return target

    def _stored(self, piece: Piece) -> str | None:
        name = _stored_name(piece.hub_name, self.tensors.names, self.config.tie_word_embeddings)
        return name if name in self.tensors.names else None

    def _logit_scale(self, piece: Piece) -> torch.Tensor:
        """Always float32: its exponential multiplies every similarity."""
        scale = torch.tensor(float(self.config.logit_scale_init_value), device=self.device)
        stored = self._stored(piece)
        if stored is not None:
            self.tensors.read_into(stored, scale)
        return scale

    def _positions(self, piece: Piece, shape: tuple[int, ...]) -> torch.Tensor:
        """The position table, brought to the grid of another image size where one was asked for."""
        table = torch.empty(piece.hub_shape, dtype=torch.float32, device=self.device)
        self.tensors.read_into(self._stored(piece) or piece.hub_name, table)
        table = resize_positions(table, self.native_grid, self.config.vision_config.grid)
        assert tuple(table.shape) == shape
        return table.to(self.dtype)


def _native_shapes(shapes: Mapping[str, tuple[int, ...]], grid: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shapes to expect in the file: the position table has the grid of the checkpoint's own image size."""
    native = dict(shapes)
    if POSITIONS in native:
        native[POSITIONS] = (1 + math.prod(grid), native[POSITIONS][1])
    return native


def _stored_name(name: str, present: Collection[str], tied: bool) -> str:
    return TIED[name] if tied and name in TIED and name not in present else name


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "a single number"


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
