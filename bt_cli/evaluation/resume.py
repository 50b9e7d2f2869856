"""Results of a long run, on disk as they come, so that the same run started again goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bt_cli.errors import BtError, IndexBusy, Unwritable
from bt_cli.files.atomic_write import open_whole, write_whole
from bt_cli.files.lock import WriterLock
from bt_cli.files.shown_path import shown_path

FILL = 1 << 20
"""How many values are written at a time when an array is made."""
BLOCK = 4096
"""Values under one checksum."""


class ResumableArrays(contextlib.AbstractContextManager["ResumableArrays"]):
    """A folder of arrays that outlive the process, or, without a folder, arrays in memory.

    The folder's name is a hash of everything that the results depend on, so a run never meets another run's results. A
    value that is still missing is NaN. The arrays are memory-mapped: they take disk, not memory, and what was written
    when the process was killed is there. Every block of them has a checksum beside it (`NAME.crc`, CRC-32): what
    `prove` was not told of, or what the disk has altered since, is missing again when it is read.

    `keep_root`: the folder above is somebody's own, and stays when it is left empty.
    """

    def __init__(self, root: Path | None = None, *identity: str, keep_root: bool = False) -> None:
        self.keep_root = keep_root
        self.folder = root / hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32] if root else None
        self._lock: WriterLock | None = None
        self._proofs: dict[str, tuple[NDArray[np.float32], NDArray[np.uint32]]] = {}

    def __enter__(self) -> ResumableArrays:
        """Take the folder for this process alone.

        Raises:
            Unwritable: The folder can't be made.
            BtError: Another process is at the same run.
        """
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Unwritable(f"{shown_path(self.folder)}: can't be made: {error.strerror or error}") from error
            self._lock = WriterLock(self.folder)
            try:
                self._lock.__enter__()
            except IndexBusy:
                raise BtError(
                    f"{shown_path(self.folder)}: another process is at this evaluation; wait for it, or --no-resume"
                ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, trace)
            self._lock = None

    @property
    def has_results(self) -> bool:
        """Whether an interrupted run left results behind."""
        return self.folder is not None and any(self.folder.glob("*.f32"))

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The array of that name: as an interrupted run left it, else new and full of NaN. float32.

        Raises:
            Unwritable: The folder can't be written, or the disk has no room for the whole array.
        """
        if self.folder is None or 0 in shape:
            return np.full(shape, np.nan, np.float32)
        path = self.folder / f"{name}.f32"
        size = int(np.prod(shape))
        try:
            sums, blocks = path.with_suffix(".crc"), -(-size // BLOCK)
            if not _has_size(path, 4 * size) or not _has_size(sums, 4 * blocks):
                _fill(path, size)
                write_whole(sums, bytes(4 * blocks))
                proofs = np.memmap(sums, np.uint32, "r+", shape=(blocks,))
                values = np.memmap(path, np.float32, "r+", shape=(size,))
                proofs[:] = [_checksum(values, block) for block in range(blocks)]
            else:
                proofs = np.memmap(sums, np.uint32, "r+", shape=(blocks,))
                values = np.memmap(path, np.float32, "r+", shape=(size,))
                for block in range(blocks):
                    if proofs[block] != _checksum(values, block):
                        values[block * BLOCK : (block + 1) * BLOCK] = np.nan
                        proofs[block] = _checksum(values, block)
            self._proofs[name] = values, proofs
            return values.reshape(shape)
        except OSError as error:
            raise Unwritable(f"{shown_path(path)}: can't be written: {error.strerror or error}") from error

    def prove(self, name: str, places: NDArray[np.int64] | range) -> None:
        """Renew the checksums over the values at `places` of an array (counted as if it were flat), now written.

        A kill between the writing and this costs their blocks, no more.
        """
        if name not in self._proofs or not len(places):
            return
        values, proofs = self._proofs[name]
        blocks = (
            range(places[0] // BLOCK, places[-1] // BLOCK + 1)
            if isinstance(places, range)
            else np.unique(places // BLOCK).tolist()
        )
        for block in blocks:
            proofs[block] = _checksum(values, block)

    def finish(self) -> None:
        """The run is over: remove what it kept."""
        if self.folder is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self.keep_root:
            with contextlib.suppress(OSError):
                os.rmdir(self.folder.parent)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _checksum(values: NDArray[np.float32], block: int) -> int:
    # The block's number counts too, so that a block that stands in another's place is noticed.
    return zlib.crc32(values[block * BLOCK : (block + 1) * BLOCK].tobytes(), block)


def _fill(path: Path, size: int) -> None:
    """Writes NaN throughout: the room is taken now, not when a page of the map can't be written any more."""
    with open_whole(path) as file:
        for start in range(0, size, FILL):
            file.write(np.full(min(FILL, size - start), np.nan, np.float32).tobytes())
