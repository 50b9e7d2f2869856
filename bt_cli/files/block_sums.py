"""Checksums by block: what is read from a mapped file is what was written, or is refused.

A file's sums are XXH3 (64 bits) of each `BLOCK` of it. The sums of all files of a piece of an index lie in one side
file; the manifest holds the checksum of that, so that neither a flipped bit nor the file of another index goes by
unnoticed. A block is checked when it is first looked at: an exact search reads all of them anyway, anything else only
its own.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import xxhash

from bt_cli.errors import BrokenIndex
from bt_cli.files.bounded_read import at_most
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path

BLOCK = 1 << 16
"""Bytes: small enough to look up one path, large enough that the sums are 1/8192 of what they prove."""
HEAD = struct.Struct("<QQ")
"""Bytes of a file, number of its sums."""
LARGEST_SUMS = 1 << 30
"""Bytes of a file of sums that is read: those of 8 TiB."""
WAY_OUT = "bt index --verify mends it where its table is whole, --rebuild makes it anew"


def damaged(path: str | os.PathLike[str]) -> BrokenIndex:
    """What to raise where a file of an index is not what was written."""
    return BrokenIndex(f"{shown_path(path)}: damaged; {WAY_OUT}")


class BlockSums:
    """The sums of one file: `size` in bytes, `sums` (blocks,) uint64."""

    def __init__(self, size: int, sums: np.ndarray) -> None:
        self.size = size
        self.sums = sums

    @classmethod
    def of(cls, file: IO[bytes]) -> BlockSums:
        """Of an open file, read from its beginning."""
        file.seek(0)
        sums, size = [], 0
        while block := file.read(BLOCK):
            sums.append(xxhash.xxh3_64_intdigest(block))
            size += len(block)
        return cls(size, np.array(sums, "<u8"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockSums) and self.size == other.size and np.array_equal(self.sums, other.sums)

    __hash__ = None  # type: ignore[assignment]


def mapped(file: IO[bytes]) -> np.ndarray:
    """(bytes,) uint8: an open file's content, which stays readable when the file is closed or its name is gone."""
    size = os.fstat(file.fileno()).st_size
    # A private map: the same pages as a shared one, and torch takes arrays of it without a warning about writing.
    return np.memmap(file, np.uint8, "c", shape=(size,)) if size else np.empty(0, np.uint8)


class CheckedBytes:
    """A mapped file whose blocks are compared with their sums when they are first asked for.

    Args:
        path: For messages.
        file: Open; may be closed afterwards. Or its content, `mapped`.
        sums: What was written; None trusts the file, as indexes of the first format have to be.

    Raises:
        BrokenIndex: The file has another length.
    """

    def __init__(self, path: str | os.PathLike[str], file: IO[bytes] | np.ndarray, sums: BlockSums | None) -> None:
        self.path = path
        size = len(file) if isinstance(file, np.ndarray) else os.fstat(file.fileno()).st_size
        if sums is not None and size != sums.size:
            raise damaged(path)
        self.content = file if isinstance(file, np.ndarray) else mapped(file)
        self._sums = sums
        self._view = self.content.data
        self._seen = np.zeros(-(-size // BLOCK) if sums is not None else 0, bool)

    @property
    def is_summed(self) -> bool:
        """Whether there is anything to compare with."""
        return self._sums is not None

    def require(self, first: int, last: int) -> None:
        """Check bytes `first` to `last`. Raises BrokenIndex where a block is not what was written."""
        if self._sums is None or last <= first:
            return
        begin, end = first // BLOCK, (min(last, len(self.content)) - 1) // BLOCK + 1
        for block in (np.flatnonzero(~self._seen[begin:end]) + begin).tolist():
            if xxhash.xxh3_64_intdigest(self._view[block * BLOCK : (block + 1) * BLOCK]) != int(self._sums.sums[block]):
                raise damaged(self.path)
            self._seen[block] = True

    def require_records(self, start: int, size: int, records: np.ndarray) -> None:
        """Check records (n,) of `size` bytes that lie one after another from `start`."""
        if self._sums is None or not len(records) or self._seen.all():
            return
        first = start + records.astype(np.int64) * size
        blocks = np.concatenate([first // BLOCK, (first + size - 1) // BLOCK])
        for block in np.unique(blocks[~self._seen[blocks]]).tolist():
            self.require(block * BLOCK, (block + 1) * BLOCK)


class CheckedFile(io.RawIOBase):
    """`CheckedBytes` as a file to read and seek in, for readers that take no bytes; what they touch is checked.

    Args:
        path: For messages.
        file: Open; may be closed afterwards. Or its content, `mapped`.
        sums: What was written, or None.

    Raises:
        BrokenIndex: On opening or reading, the file is not what was written.
    """

    def __init__(self, path: str | os.PathLike[str], file: IO[bytes] | np.ndarray, sums: BlockSums | None) -> None:
        self._checked = CheckedBytes(path, file, sums)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._checked.content)}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        last = min(self._place + len(buffer), len(self._checked.content))
        count = max(0, last - self._place)
        self._checked.require(self._place, last)
        memoryview(buffer).cast("B")[:count] = self._checked.content[self._place : last].data
        self._place += count
        return count


def write_sums(path: Path, files: Sequence[Path]) -> str:
    """Write the sums of `files`, in their order, to a new file on the disk; its own checksum."""
    parts = []
    for name in files:
        with open(name, "rb", buffering=0) as file:
            sums = BlockSums.of(file)
        parts.append(HEAD.pack(sums.size, len(sums.sums)) + sums.sums.tobytes())
    content = b"".join(parts)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return checksum(content)


def read_sums(path: Path, expected: str, count: int) -> list[BlockSums]:
    """The sums of `count` files.

    Raises:
        BrokenIndex: The file is not the one whose checksum is `expected`, or larger than any.
    """
    with open_plain(path) as file:
        content = at_most(file, LARGEST_SUMS)
    if len(content) > LARGEST_SUMS or checksum(content) != expected:
        raise damaged(path)
    found, place = [], 0
    for _ in range(count):
        size, blocks = HEAD.unpack_from(content, place)
        place += HEAD.size
        found.append(BlockSums(size, np.frombuffer(content, "<u8", blocks, place)))
        place += 8 * blocks
    return found


def checksum(content: bytes) -> str:
    """XXH3 of some bytes, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(content)
