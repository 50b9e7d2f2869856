"""Many strings in one mapped file, each found by its number without reading the others: paths and captions.

Layout: `BTSTRING`, the count n (8 bytes, little endian), n + 1 offsets of 8 bytes into the text, the text as bytes.
Opening reads 16 bytes and the first and the last offset.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import IO

import numpy as np

from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import WAY_OUT, BlockSums, CheckedBytes, damaged
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path

MAGIC = b"BTSTRING"
HEAD = struct.Struct("<8sQ")


def write_strings(file: IO[bytes], strings: Iterable[bytes], count: int) -> None:
    """Write `count` byte strings to a new seekable file, one after another: the text is not gathered in memory.

    Raises:
        ValueError: There are more or fewer strings than `count`.
    """
    offsets = np.zeros(count + 1, "<u8")
    file.write(HEAD.pack(MAGIC, count))
    file.seek(HEAD.size + offsets.nbytes)
    number = place = 0
    for number, string in enumerate(strings, 1):
        if number > count:
            break
        place += len(string)
        offsets[number] = place
        file.write(string)
    if number != count:
        raise ValueError(f"not the {count} strings that were announced")
    file.seek(HEAD.size)
    file.write(offsets.tobytes())
    file.seek(0, os.SEEK_END)


class StringTable:
    """A string file, mapped; `table[3]` is the fourth string as bytes.

    Raises:
        BrokenIndex: On opening or reading, the text is cut short or its offsets can't be.
    """

    def __init__(self, path: str | os.PathLike[str], sums: BlockSums | None = None) -> None:
        self.path = path
        with open_plain(path) as file:
            self.checked = CheckedBytes(path, file, sums)
        content = self.checked.content
        broken = BrokenIndex(f"{shown_path(path)}: no string table; {WAY_OUT}")
        if len(content) < HEAD.size:
            raise broken
        self.checked.require(0, HEAD.size)
        magic, self.count = HEAD.unpack(content[: HEAD.size].tobytes())
        self.start = HEAD.size + 8 * (self.count + 1)
        if magic != MAGIC or len(content) < self.start:
            raise broken
        self.checked.require(self.start - 8, self.start)
        self.offsets = content[HEAD.size : self.start].view("<u8")
        self.text = content[self.start :]
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.text):
            raise self.broken()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> bytes:
        if not 0 <= number < self.count:
            raise IndexError(number)
        self.checked.require(HEAD.size + 8 * number, HEAD.size + 8 * number + 16)
        first, last = int(self.offsets[number]), int(self.offsets[number + 1])
        self.checked.require(self.start + first, self.start + last)
        if not first <= last <= len(self.text):
            raise self.broken()
        return self.text[first:last].tobytes()

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """All text (bytes,) uint8 and where each string begins and the last ends in it, (n + 1,) int64, checked."""
        self.checked.require(0, len(self.checked.content))
        offsets = self.offsets.astype(np.int64)
        if (offsets[1:] < offsets[:-1]).any():
            raise self.broken()
        return self.text, offsets

    def broken(self) -> BrokenIndex:
        """What to raise where the text can't be what was written."""
        return damaged(self.path)
