"""One safetensors file: its header at once, its tensors when asked.

The format is 8 bytes of header length (little-endian), a JSON header of `{name: {dtype, shape, data_offsets}}`, and
the tensors' bytes one after another. Reading it here instead of mapping it keeps a file's pages out of the process: a
tensor goes from the disk straight into the memory that will hold it, cast on the way.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bt_cli.errors import BrokenCheckpoint
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import numpy as np
    import torch

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
NUMPY_NAMES = {**TORCH_NAMES, "BF16": "uint16"}
"""As `mapped` gives them: numpy has no bfloat16, so those are given as their bits."""
DTYPE_CODES = {name: code for code, name in TORCH_NAMES.items()}

_LARGEST_HEADER = 16 << 20  # that of a BridgeTower has 0.1 MiB; the format itself allows 100
_CHUNK_BYTES = 8 << 20  # casting holds no more than this beside the destination


@dataclass(frozen=True)
class TensorEntry:
    """A tensor as its file announces it: `dtype` in safetensors' spelling (`F32`, `BF16`, ...)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * ITEM_SIZES[self.dtype]


class SafetensorsFile:
    """The tensors of one file. No handle is held, and no mapping but for `mapped`.

    Raises `BrokenCheckpoint` for a file that is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, TensorEntry] = {}
        self._starts: dict[str, int] = {}
        self._mapping: mmap.mmap | None = None
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            header, data_start = _read_header(path, file, size)
        for name, fields in header.items():
            if name != "__metadata__":
                self._add(name, fields, data_start, size)

    def _add(self, name: str, fields: Any, data_start: int, size: int) -> None:
        try:
            entry = TensorEntry(tuple(int(side) for side in fields["shape"]), str(fields["dtype"]))
            start, stop = (int(offset) for offset in fields["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BrokenCheckpoint(f"{self.path}: the header's entry for {name!r} makes no sense") from None
        if entry.dtype not in ITEM_SIZES:
            raise BrokenCheckpoint(f"{self.path}: {name} is stored as {entry.dtype}, which bt does not read")
        if stop - start != entry.nbytes or start < 0 or any(side < 0 for side in entry.shape):
            raise BrokenCheckpoint(
                f"{self.path}: {name} {entry.shape} {entry.dtype} does not fill its {stop - start} bytes"
            )
        if data_start + stop > size:
            raise BrokenCheckpoint(
                f"{self.path} is cut short: {name} ends at byte {data_start + stop}, the file at {size}; get it again"
            )
        self.entries[name] = entry
        self._starts[name] = data_start + start

    def read_into(self, name: str, destination: torch.Tensor) -> None:
        """Fill `destination`, contiguous and of the same number of elements, any floating dtype and device."""
        import torch

        entry, start = self.entries[name], self._starts[name]
        dtype = getattr(torch, TORCH_NAMES[entry.dtype])
        flat = destination.detach().reshape(-1)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(start)
            if flat.dtype == dtype and flat.device.type == "cpu":
                if entry.nbytes:
                    _read_exactly(self.path, file, flat.view(torch.uint8).numpy().data)
                return
            step = _CHUNK_BYTES // ITEM_SIZES[entry.dtype]
            for first in range(0, entry.elements, step):
                chunk = torch.empty(min(step, entry.elements - first), dtype=dtype)
                _read_exactly(self.path, file, chunk.view(torch.uint8).numpy().data)
                flat[first : first + len(chunk)].copy_(chunk)

    def mapped(self, name: str) -> np.ndarray:
        """The tensor where it lies in the file, mapped and not to be written; bfloat16 as its bits, uint16."""
        import numpy as np

        entry = self.entries[name]
        if self._mapping is None:
            with open(self.path, "rb") as file:
                self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        dtype = np.dtype(NUMPY_NAMES[entry.dtype]).newbyteorder("<")
        flat = np.frombuffer(self._mapping, dtype, entry.elements, self._starts[name])
        return flat.reshape(entry.shape)

    def spans(self, name: str, spans: Sequence[tuple[int, int]]) -> bytes:
        """The bytes of the tensor between the given offsets, one span after another."""
        pieces = []
        with open(self.path, "rb", buffering=0) as file:
            for first, last in spans:
                piece = bytearray(last - first)
                file.seek(self._starts[name] + first)
                _read_exactly(self.path, file, memoryview(piece))
                pieces.append(bytes(piece))
        return b"".join(pieces)


def write_safetensors(
    path: Path, entries: Mapping[str, TensorEntry], tensors: Iterable[torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write `tensors`, in the order of `entries` and cast to their dtype one by one, and sync the file to disk."""
    import torch

    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, entry in entries.items():
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [end, end + entry.nbytes]}
        end += entry.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # readers that map the file want the data aligned
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for entry, tensor in zip(entries.values(), tensors, strict=True):
            cast = tensor.detach().to("cpu", getattr(torch, TORCH_NAMES[entry.dtype])).contiguous()
            if cast.numel():
                file.write(cast.reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _read_header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The JSON header and the offset at which the tensors' bytes begin."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    refuse_pointer(path, start)
    if len(start) < 8 or length > _LARGEST_HEADER:
        raise BrokenCheckpoint(f"{path} is no safetensors file")
    if 8 + length > size:
        raise BrokenCheckpoint(f"{path} is cut short: its header alone needs {8 + length} bytes, the file has {size}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BrokenCheckpoint(f"{path} is no safetensors file: its header is not a JSON object")
    return header, 8 + length


def _read_exactly(path: Path, file: Any, buffer: memoryview) -> None:
    """Fill `buffer`; one read returns at most 2 GiB on Linux, hence the loop."""
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise BrokenCheckpoint(f"{path} is cut short; get it again")
        done += count


def opened(path: Path) -> BinaryIO:
    """A weights file, of whatever format, open for reading; raise `BrokenCheckpoint` for a pipe or a device there."""
    try:
        file: BinaryIO = open_plain(path)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        raise BrokenCheckpoint(f"{shown_path(path)}: can't be read: {error.strerror}; get it again") from None
    return file


def refuse_pointer(path: Path, start: bytes) -> None:
    """Raise `BrokenCheckpoint` where a weights file, of whatever format, begins as what Git LFS leaves in its place."""
    if start.startswith(b"version "):
        raise BrokenCheckpoint(f"{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
