"""Reading a file that the user named, and no more of it than is stated: what has no end is refused, not read."""

from __future__ import annotations

import io
import os
import stat
from typing import IO, BinaryIO

from bt_cli.errors import BtError, NotFound
from bt_cli.files.plain_file import is_plain
from bt_cli.files.shown_path import shown_path

CHUNK = 1 << 20
"""Bytes that are asked for at a time where nobody knows how many there are."""

PathLike = str | os.PathLike[str]


def open_file(path: PathLike, error: type[BtError]) -> BinaryIO:
    """A file or pipe, open for reading bytes; a pipe, as the shell's `<(...)` and `/dev/stdin` are, may be read once.

    Args:
        path: The file.
        error: Raised for a folder, a device, a socket or a file of the kernel's, and for what can't be opened.

    Raises:
        NotFound: There is no such file.
    """
    shown = shown_path(path)
    try:
        status = os.stat(path)
        if not (is_plain(status) or stat.S_ISFIFO(status.st_mode)):
            raise error(f"{shown}: {_kind(status.st_mode)}, and no file that can be read whole")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{shown}: no such file") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f"{shown}: can't be read: {getattr(reason, 'strerror', None) or reason}") from None


def at_most(file: IO[bytes], limit: int) -> bytes:
    """All that is left of an open file, but no more than `limit` bytes and one: whoever gets that knows of too much.

    Memory is taken as bytes come: asking for the limit at once would take all of it first, which a process with a
    limit of its own (`ulimit -v`, a scheduler's) can't have.

    Raises:
        OSError: Of reading.
    """
    parts = [file.read(min(_expected(file) + 1, limit + 1))]
    left = limit + 1 - len(parts[0])
    while left and parts[-1]:
        parts.append(file.read(min(CHUNK, left)))
        left -= len(parts[-1])
    return b"".join(parts)


def _expected(file: IO[bytes]) -> int:
    """How many bytes an open file probably has."""
    try:
        status = os.fstat(file.fileno())
    except io.UnsupportedOperation:  # bytes in memory
        return CHUNK
    return status.st_size if stat.S_ISREG(status.st_mode) else CHUNK


def read_bounded(path: PathLike, error: type[BtError], limit: int, way_out: str) -> bytes:
    """All bytes of a file or pipe of at most `limit` bytes; arguments and errors as for :func:`open_file`.

    A larger one is refused with `way_out` at the end of the line, a regular file before any of it is read.
    """
    with open_file(path, error) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = at_most(file, limit) if size <= limit else b""
        except OSError as reason:
            raise error(f"{shown_path(path)}: can't be read: {reason.strerror or reason}") from None
    if size > limit or len(content) > limit:
        raise error(f"{shown_path(path)}: larger than {limit >> 20:,} MiB; {way_out}")
    return content


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISREG(mode):
        return "a file of the kernel's"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
