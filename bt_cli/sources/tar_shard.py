"""A tar file of images, as img2dataset and webdataset write them: which members it has, and their bytes.

A member goes by `shard.tar/name`. The name is only a name: what would lead out of a folder, or is no name of its own,
is written so that it does neither (`member_names`).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import IO, NamedTuple, cast

from bt_cli.errors import UnreadableImage
from bt_cli.sources.recent import Recent
from bt_cli.sources.web_address import is_url

SUFFIXES = (".tar", ".tar.gz", ".tgz")
BLOCK = 512
END = b"\0" * BLOCK
"""A block of zeros ends an archive (POSIX.1-1988); writers put two, and some only one."""

MOST_OPEN = 32
"""Shards whose table of members a process keeps; reading one anew costs some 0.1 ms a member."""
WINDOW = 64 << 20
"""Bytes of a compressed shard that stay at hand behind the place that it was read to: threads ask a little out of
order."""
CHUNK = 1 << 18
LARGEST = 4 << 30
"""Bytes of a member that are read."""


class Member(NamedTuple):
    """A file within a shard."""

    name: str
    """Behind the shard's own path and a slash; stray bytes stand as lone surrogates."""
    offset: int
    """Where its bytes begin, in the archive as it is without compression."""
    size: int


class TarShard:
    """The members of one tar file, listed when it is opened.

    Args:
        path: The file; with a suffix of `.gz` or `.tgz` it is decompressed as it is read.

    Attributes:
        members: All plain files, in the archive's order.
        damage: What is wrong with the archive, in words, or None: the members before that place are sound.
        stamp: Size and time of change of the file, by which a changed one is known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = shard_stamp(path)
        self.packed = not path.lower().endswith(".tar")
        self.damage: str | None = None
        self._stream = _GzipWindow(path, self.stamp) if self.packed else None
        self.members = member_names(self._listed())
        self._by_name = {member.name: member for member in self.members}

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a member, or the first `most` of them.

        Raises:
            FileNotFoundError: It has no member of that name.
            UnreadableImage: The archive ends within it, or it is too large.
            OSError: The file can't be read.
        """
        member = self._by_name.get(name)
        if member is None:
            raise FileNotFoundError(2, "no such member", f"{self.path}/{name}")
        size = member.size if most is None else min(most, member.size)
        if size > LARGEST:
            raise UnreadableImage(f"more than {LARGEST >> 30} GiB, the most that is read of a file")
        if self._stream is not None:
            data = self._stream.read(member.offset, size)
        elif is_url(self.path):
            from bt_cli.sources.remote_file import RemoteStat, copied_part

            data = copied_part(self.path, RemoteStat(*self.stamp), member.offset, size)
        else:
            with open(self.path, "rb") as file:
                file.seek(member.offset)
                data = file.read(size)
        if len(data) < size:
            raise UnreadableImage("the shard ends within it")
        return data

    def is_at_hand(self, name: str) -> bool:
        """Whether the bytes of a member of a shard elsewhere are here already, so that reading it asks nobody."""
        from bt_cli.sources.remote_copy import COPY

        member = self._by_name.get(name)
        return (
            member is not None and not self.packed and COPY.holds((self.path, *self.stamp), member.offset, member.size)
        )

    def _listed(self) -> Iterator[tuple[str, int, int]]:
        """(name, offset, size) of each plain file, and of each link to one before it; `damage` is set where the archive
        does not end as one does."""
        places: dict[str, tuple[int, int]] = {}
        with self._open() as file:
            try:
                with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
                    for entry in archive:
                        archive.members = []  # type: ignore[attr-defined]  # else it keeps every header
                        if entry.isreg() and not entry.sparse:
                            if entry.offset_data + entry.size > self._length(file):
                                self.damage = f"ends within {entry.name}"
                                return
                            places[entry.name] = entry.offset_data, entry.size
                            yield entry.name, entry.offset_data, entry.size
                        elif entry.islnk() and entry.linkname in places:  # how tar writes a file that it has already
                            yield entry.name, *places[entry.linkname]
                    self._check_end(file, archive.offset)
            except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
                self.damage = "is no tar file" if isinstance(error, tarfile.ReadError) else "cut off or damaged"
                if self._position(file):
                    self.damage = f"cut off or damaged at byte {self._position(file):,}"

    def _check_end(self, file: IO[bytes], at: int) -> None:
        """Python's reader takes a header that is cut off or unreadable for the end: the end is a block of zeros."""
        file.seek(at)
        block = file.read(BLOCK)
        if block != END:
            self.damage = f"cut off or damaged at byte {at:,}"

    def _open(self) -> IO[bytes]:
        return (_unpacked if self.packed else opened_file)(self.path, self.stamp)

    def _length(self, file: IO[bytes]) -> int:
        """Of the archive; of a compressed one nobody knows before its end, where reading fails by itself."""
        return (1 << 62) if self.packed else self.stamp[0]

    @staticmethod
    def _position(file: IO[bytes]) -> int:
        try:
            return file.tell()
        except (OSError, ValueError, EOFError):
            return 0


class _GzipWindow:
    """Reads a compressed file forwards, keeps what it passed last, and begins anew for what lies further back."""

    def __init__(self, path: str, stamp: tuple[int, int]) -> None:
        self.path, self.stamp = path, stamp
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        """Offset to the block that begins there, ascending without gaps."""
        self._end = 0

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset` of what the file holds decompressed; fewer at its end."""
        with self._lock:
            first = next(iter(self._kept), self._end)
            if self._file is None or offset < first:
                self._restart()
            while self._end < offset + size and self._forward():
                pass
            return self._cut(offset, size)

    def _restart(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = _unpacked(self.path, self.stamp)
        self._kept.clear()
        self._end = 0

    def _forward(self) -> bool:
        assert self._file is not None
        block = b""
        with contextlib.suppress(EOFError, zlib.error, gzip.BadGzipFile):  # what was read before it is sound
            while len(block) < CHUNK and (some := self._file.read1(CHUNK)):  # type: ignore[attr-defined]
                block += some
        if not block:
            return False
        self._kept[self._end] = block
        self._end += len(block)
        while len(self._kept) > 1 and self._end - next(iter(self._kept)) > WINDOW:
            self._kept.popitem(last=False)
        return True

    def _cut(self, offset: int, size: int) -> bytes:
        found = [
            block[max(offset - at, 0) : offset + size - at]
            for at, block in self._kept.items()
            if at < offset + size and at + len(block) > offset
        ]
        return b"".join(found)


def shard_stamp(path: str) -> tuple[int, int]:
    """Size and time of change of a shard's file, by which a changed one is known; of one elsewhere size and stamp (see
    `remote_file`). Raises OSError."""
    if is_url(path):
        from bt_cli.sources.remote_file import remote_stat

        found = remote_stat(path)
        return found.size, found.stamp_ns
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def opened_file(path: str, stamp: tuple[int, int]) -> IO[bytes]:
    """A file, open for reading; one elsewhere as it was when it had this stamp. Raises OSError."""
    if is_url(path):
        from bt_cli.sources.remote_file import RemoteStat, open_remote  # which a search in files need not wait for

        return open_remote(path, RemoteStat(*stamp))
    return open(path, "rb")


def _unpacked(path: str, stamp: tuple[int, int]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=opened_file(path, stamp)))


def member_names(entries: Iterator[tuple[str, int, int]]) -> list[Member]:
    """Members by names that are paths below the shard: no empty part, no `.`, `..` written `%2E%2E`; the second of a
    name gets `#2` behind it, the third `#3`."""
    seen: dict[str, int] = {}
    members = []
    for raw, offset, size in entries:
        parts = ["%2E%2E" if part == ".." else part for part in raw.split("/") if part not in ("", ".")]
        name = "/".join(parts) or "%2E"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}#{seen[name]}"
        members.append(Member(name, offset, size))
    return members


_opened: Recent[tuple[str, tuple[int, int]], TarShard] = Recent(MOST_OPEN)
_asked: dict[str, tuple[float, tuple[int, int]]] = {}
"""When the stamp of a shard elsewhere was asked for, and what it was."""
ASK_AGAIN = 60.0
"""Seconds in which a shard elsewhere is taken to stay as it is: every read would ask otherwise."""


def current_stamp(path: str) -> tuple[int, int]:
    """As `shard_stamp`, but one elsewhere is not asked for again within `ASK_AGAIN`."""
    if not is_url(path):
        return shard_stamp(path)
    asked, stamp = _asked.get(path, (0.0, (0, 0)))
    now = time.monotonic()
    if not asked or now - asked > ASK_AGAIN:
        stamp = shard_stamp(path)
        _asked[path] = now, stamp
    return stamp


def asked_key(path: str) -> tuple[str, tuple[int, int]] | None:
    """As `shard_key` of a shard elsewhere whose stamp was asked for lately; None for any other: nobody is asked."""
    asked, stamp = _asked.get(path, (0.0, (0, 0)))
    return (path, stamp) if asked and time.monotonic() - asked <= ASK_AGAIN else None


def opened_shard(key: tuple[str, tuple[int, int]]) -> TarShard | None:
    """The shard of a key, if it is open."""
    return _opened.peek(key)


def open_shard(path: str, *, asked_now: bool = False) -> TarShard:
    """The shard at a path, listed once as long as the file stays the same; with `asked_now` one elsewhere is asked
    whether it does, however lately that was done.

    Raises:
        OSError: It can't be read.
    """
    return _opened.get(shard_key(path, asked_now=asked_now), lambda: TarShard(path))


def shard_key(path: str, *, asked_now: bool = False) -> tuple[str, tuple[int, int]]:
    """By which a shard is kept open; arguments and errors as of `open_shard`."""
    if asked_now:
        _asked.pop(path, None)
    return path if is_url(path) else os.path.abspath(path), current_stamp(path)


def is_shard_name(path: str) -> bool:
    """Whether a file's name is that of a tar shard."""
    return path.lower().endswith(SUFFIXES)
