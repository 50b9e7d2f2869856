"""What was read of files elsewhere, kept on disk as long as the process lives: a shard is listed, then its images are
read, and it comes over the network once. So are images of a Parquet file that are asked for in no order.

All of it is in one file without a name, which goes with the process, and takes at most a quarter of the space that is
free there; what is read beyond that is not kept, and asked for again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from bisect import bisect_right
from typing import IO

SHARE = 4
"""The part of the free space is one of so many."""

Key = tuple[str, int, int]
"""An address with the size and stamp of what is there: of another version nothing is kept."""


class RemoteCopy:
    """Parts of files by where they begin; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._end = 0
        self._limit = 0
        self._parts: dict[Key, list[tuple[int, int, int]]] = {}
        """(first byte, size, place in our file) of each part, ascending, none over another."""

    def keep(self, key: Key, first: int, content: bytes) -> None:
        """Keep a part, if there is room and none is there that begins at the same place."""
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="bt-")  # noqa: SIM115
                self._limit = shutil.disk_usage(tempfile.gettempdir()).free // SHARE
            parts = self._parts.setdefault(key, [])
            place = bisect_right(parts, (first, 1 << 62, 0))
            if (place and sum(parts[place - 1][:2]) > first) or self._end + len(content) > self._limit:
                return
            if place < len(parts):
                content = content[: parts[place][0] - first]
            try:
                os.pwrite(self._file.fileno(), content, self._end)
            except OSError:  # no space after all
                self._limit = 0
                return
            parts.insert(place, (first, len(content), self._end))
            self._end += len(content)

    def holds(self, key: Key, first: int, size: int) -> bool:
        """Whether all of `size` bytes from `first` on are kept."""
        with self._lock:
            parts = self._parts.get(key, [])
            place = bisect_right(parts, (first, 1 << 62, 0))
            end = sum(parts[place - 1][:2]) if place else 0
            while end < first + size and place < len(parts) and parts[place][0] == end:
                end += parts[place][1]
                place += 1
            return end >= first + size

    def find(self, key: Key, first: int, size: int) -> tuple[bytes, int]:
        """What is kept from `first` on, at most `size` bytes, without a gap; and how many bytes behind `first` are not
        kept, where the first of them is not."""
        with self._lock:
            parts = self._parts.get(key, [])
            place = bisect_right(parts, (first, 1 << 62, 0))
            if place and (left := sum(parts[place - 1][:2]) - first) > 0:
                begin, _, at = parts[place - 1]
                assert self._file is not None
                return os.pread(self._file.fileno(), min(left, size), at + first - begin), 0
            return b"", parts[place][0] - first if place < len(parts) else size


COPY = RemoteCopy()
"""The process's own."""
