"""Bridge features of images that were encoded before, on disk beside an index.

What fusing needs of an image is one block of numbers, of one size for all images of a checkpoint. The disk cache is a
folder with `header.json` (what made the features, their shape), `features.bin` (blocks, one a slot) and `keys.bin` (24
bytes for each block written: whose it is, its slot, its checksum). Full, it writes over its oldest blocks. A file is
known by its path, size and time of change; a block that was torn by a crash, or is being written over, fails its
checksum, is forgotten and counts as absent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import BtError, Misuse, Unwritable
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.bounded_read import at_most
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.member import split_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = 1
LARGEST_KEYS = 1 << 30
"""Bytes of keys that are read: those of 44 million images."""
_KEY = struct.Struct("<16sII")
_ITEM_BYTES = {"float32": 4, "bfloat16": 2}


def file_key(source: Any) -> bytes | None:
    """16 bytes that name the content of a file by path, size and time of change; None for what is no file."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        path = os.path.abspath(os.fspath(source))
        container = split_path(path)
        status = os.stat(path if container is None else container[0])
    except (OSError, ValueError):
        return None
    stated = f"{status.st_size}\0{status.st_mtime_ns}\0".encode() + os.fsencode(path)
    return hashlib.blake2b(stated, digest_size=16).digest()


class BridgeCache:
    """Blocks on disk, memory-mapped. `made_by` says what makes them (checkpoint, preprocessing, precision ...).

    Each `made_by` has a folder of its own below `folder`, so two checkpoints never mix. `limit` is the most bytes that
    its features may take; None opens the cache for reading alone, and so does another process that is writing.

    Raises Misuse for a limit that is infinite, not a number or negative.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, Any], *, limit: float | None = None) -> None:
        if limit is not None and not 0 <= limit < math.inf:
            raise Misuse(f"a bridge cache of {limit} bytes can't be kept; give a finite number")
        self.made_by = dict(made_by)
        stated = json.dumps(self.made_by, sort_keys=True).encode()
        self.folder = folder / hashlib.blake2b(stated, digest_size=8).hexdigest()
        self.limit = None if limit is None else int(limit)
        self._slots: dict[bytes, tuple[int, int]] = {}
        self._owners: dict[int, bytes] = {}
        self._free: set[int] = set()
        """Slots whose block failed its checksum: they are filled again before any whole block is written over."""
        self._next = 0
        self._shape = self._shape_in_header()
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None
        self._writer: _Writer | None = None
        if self._shape is not None:
            self._read_keys()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: bytes) -> bool:
        """Whether the block of a file is there and whole: it is read for that."""
        return self._whole(key) is not None

    @property
    def dtype(self) -> torch.dtype:
        """Of the features."""
        import torch

        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._dtype_name]

    @property
    def _dtype_name(self) -> str:
        return str(self.made_by["dtype"])

    @property
    def block_bytes(self) -> int:
        """Bytes of one image's features; 0 before the first."""
        return 0 if self._shape is None else math.prod(self._shape) * _ITEM_BYTES[self._dtype_name]

    def get(self, key: bytes) -> Tensor | None:
        """The block (L, P, h) of a file, None where there is none that is whole."""
        import torch

        content = self._whole(key)
        return None if content is None else torch.frombuffer(content, dtype=self.dtype).view(self._shape or ())

    def put(self, key: bytes, block: Tensor) -> bool:
        """Keep (L, P, h); returns whether it was kept. A full disk stops the writing, with a warning, not the work."""
        if self.limit is None or block.dtype != self.dtype or key in self:
            return False
        try:
            return self._write(key, block)
        except OSError as error:
            self._stop(f"{shown_path(self.folder)}: {error.strerror or error}; bridge features are not kept any more")
        except Unwritable as error:
            self._stop(f"{error}; bridge features are not kept")
        return False

    def close(self) -> None:
        """Sync and close what is open; reading stays possible."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, key: bytes, block: Tensor) -> bool:
        if self._shape is None:
            self._write_header(block)
        is_other = tuple(block.shape) != self._shape
        if is_other and any(known in self for known in list(self._slots)):
            return False
        capacity = (self.limit or 0) // block.nbytes
        if capacity < 1:
            return False
        if self._writer is None:
            self._writer = _Writer.open(self.folder)
            if self._writer is None:
                self._stop(None)
                return False
            self._forget_beyond(capacity)
        if is_other:  # and no block is whole in the header's shape: it is the header that is damaged
            self._write_header(block)
            self._forget_beyond(capacity)
        slot = self._slot_to_fill(capacity)
        import torch

        content = block.contiguous().view(torch.uint8).numpy().tobytes()
        checksum = zlib.crc32(content)
        self._writer.write(slot * self.block_bytes, content, _KEY.pack(key, slot, checksum))
        self._own(key, slot, checksum)
        return True

    def _write_header(self, block: Tensor) -> None:
        self._shape = tuple(block.shape)
        header = {"format": FORMAT, "made_by": self.made_by, "shape": list(self._shape)}
        write_whole(self.folder / "header.json", json.dumps(header, indent=2))

    def _slot_to_fill(self, capacity: int) -> int:
        """The next slot in turn; where a block stands there, one whose block was forgotten goes first."""
        slot = self._next % capacity
        free = [other for other in self._free if other < capacity]
        return min(free) if free and self._owners.get(slot) in self._slots else slot

    def _whole(self, key: bytes) -> bytearray | None:
        """The bytes of a block, None where there is none; one that fails its checksum is forgotten."""
        where = self._slots.get(key)
        if where is None:
            return None
        slot, checksum = where
        stored = self._stored(slot)
        content = None if stored is None else bytearray(stored)
        if content is None or zlib.crc32(content) != checksum:
            del self._slots[key]
            self._free.add(slot)
            return None
        return content

    def _own(self, key: bytes, slot: int, checksum: int) -> None:
        former = self._owners.get(slot)
        if former is not None and self._slots.get(former, (-1, 0))[0] == slot:
            del self._slots[former]
        self._owners[slot] = key
        self._free.discard(slot)
        self._slots[key] = (slot, checksum)
        self._next = slot + 1

    def _forget_beyond(self, capacity: int) -> None:
        """Under a smaller limit than before: give back what lies beyond it, and keep keys of what is left."""
        kept = {key: where for key, where in self._slots.items() if where[0] < capacity}
        records = b"".join(_KEY.pack(key, *where) for key, where in kept.items())
        assert self._writer is not None
        self._writer.rewrite_keys(records, capacity * self.block_bytes)
        self._slots, self._owners = kept, {where[0]: key for key, where in kept.items()}
        self._next = self._next if self._next <= capacity else 0
        self._map = None

    def _stored(self, slot: int) -> Any:
        end = (slot + 1) * self.block_bytes
        if self._map is None or len(self._map) < end:
            try:
                with open_plain(self.folder / "features.bin") as file:
                    self._map = np.memmap(file, dtype=np.uint8, mode="r")
            except (OSError, ValueError):
                return None
        return None if len(self._map) < end else self._map[end - self.block_bytes : end]

    def _shape_in_header(self) -> tuple[int, ...] | None:
        try:
            header = read_json_object(self.folder / "header.json", Unwritable, limit=SETTINGS)
            fits = header["format"] == FORMAT and header["made_by"] == self.made_by
            shape = tuple(header["shape"])
            if not fits or len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
                return None
            # A shape that not one block of would fit the file is not that of what was written.
            room = os.path.getsize(self.folder / "features.bin")
            return shape if math.prod(shape) * _ITEM_BYTES[self._dtype_name] <= room else None
        except (BtError, OSError, ValueError, KeyError, TypeError):
            return None

    def _read_keys(self) -> None:
        try:
            with open_plain(self.folder / "keys.bin") as file:
                records = at_most(file, LARGEST_KEYS)
        except OSError:
            return
        whole = len(records) - len(records) % _KEY.size
        for key, slot, checksum in _KEY.iter_unpack(records[:whole]):
            self._own(key, slot, checksum)

    def _stop(self, message: str | None) -> None:
        self.limit = None
        self.close()
        if message is not None:
            warnings.warn(message, stacklevel=3)


class _Writer:
    """The one process that writes: features first, then the key that makes them count."""

    def __init__(self, folder: Path, features: IO[bytes], keys: IO[bytes]) -> None:
        self.folder, self.features, self.keys = folder, features, keys

    @classmethod
    def open(cls, folder: Path) -> _Writer | None:
        """None where another process writes."""
        features = _open_both_ways(folder / "features.bin")
        if not _lock(features):
            features.close()
            return None
        return cls(folder, features, _open_both_ways(folder / "keys.bin"))

    def write(self, place: int, content: bytes, record: bytes) -> None:
        self.features.seek(place)
        self.features.write(content)
        self.features.flush()
        self.keys.seek(0, os.SEEK_END)
        self.keys.write(record)
        self.keys.flush()

    def rewrite_keys(self, records: bytes, features_bytes: int) -> None:
        if os.fstat(self.features.fileno()).st_size > features_bytes:
            self.features.truncate(features_bytes)
        self.keys.close()
        write_whole(self.folder / "keys.bin", records)
        self.keys = _open_both_ways(self.folder / "keys.bin")

    def close(self) -> None:
        for file in (self.features, self.keys):
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
            file.close()


def _open_both_ways(path: Path) -> IO[bytes]:
    """A file of the cache, made where it is missing; a link would lead to somebody else's, a pipe to nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))
    return os.fdopen(descriptor, "r+b")


def _lock(file: IO[bytes]) -> bool:
    """Whether this process is the only writer now; where the platform has no file locks, it is taken to be."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
