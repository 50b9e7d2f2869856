"""Writing a file so that it is either the old one or the new one, never half of each."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bt_cli.errors import Unwritable
from bt_cli.files.shown_path import shown_path
from bt_cli.files.unfinished import lock_part, sweep_parts

_NAME_LENGTH = 60
"""Characters of a file's name that its unfinished one repeats: with 4 bytes each there is room for the rest in 255."""


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file beside `path` for writing; on leaving it is synced to disk and takes the place of `path`.

    On an exception `path` stays as it was and the file beside it goes; what a killed process left goes when the same
    file is next written. Folders above are made. A link stays a link:
    the file that it points to is the one that is replaced, or made. Permissions are those of the file replaced, or
    what the umask leaves of a new one. What is no plain file can't be replaced by one: into a pipe, a terminal or
    another character device (`/dev/null`, `/dev/stdout`) bytes go as they are written.

    Raises:
        Unwritable: The folder can't be written, the disk is full, or `path` is a folder, a block device or a socket.
    """
    path = Path(path)
    try:
        opened = _open_stream(path) if _is_stream(path) else _open_beside(path)
        with opened as file:
            yield file
    except OSError as error:
        raise Unwritable(f"{shown_path(path)}: can't be written: {_reason(error)}") from error


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) to `path` in one step; see `open_whole`."""
    with open_whole(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def _is_stream(path: Path) -> bool:
    """Whether bytes go straight into what stands at `path`: a pipe, a character device, an open file."""
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        raise OSError(errno.EINVAL, f"a {'block device' if stat.S_ISBLK(kind) else 'socket'} stands there; name a file")
    return not stat.S_ISREG(kind) or _descriptor(path) is not None


def _descriptor(path: Path) -> int | None:
    """The open file of this process that `path` is another name of, as `/dev/stdout` is of 1."""
    for _ in range(40):  # as many links as Linux follows
        if os.path.realpath(path.parent) in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
            return int(path.name) if path.name.isdigit() else None
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)
    return None


@contextlib.contextmanager
def _open_stream(path: Path) -> Iterator[IO[bytes]]:
    descriptor = _descriptor(path)
    # A copy of an open descriptor goes on where it stands: what was written to it before stays.
    opened = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)) if descriptor is None else os.dup(descriptor)
    with os.fdopen(opened, "wb") as file:
        yield file


@contextlib.contextmanager
def _open_beside(path: Path) -> Iterator[IO[bytes]]:
    target = Path(os.path.realpath(path))
    beside = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_parts(target.parent, target.name[:_NAME_LENGTH])
        descriptor, beside = _create_beside(target)
        lock_part(descriptor)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(beside, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(beside, target)
        beside = None
        _sync_folder(target.parent)
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _create_beside(target: Path) -> tuple[int, Path]:
    """A new hidden file, open for reading and writing, with the permissions that the umask leaves."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        beside = target.with_name(f".{target.name[:_NAME_LENGTH]}.{secrets.token_hex(4)}.part")
        with contextlib.suppress(FileExistsError):
            return os.open(beside, flags, 0o666), beside


def _reason(error: OSError) -> str:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "a file stands where a folder is needed"
    if isinstance(error, io.UnsupportedOperation):
        return "this format can't be written to a pipe; name a file"
    return error.strerror or str(error)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable; some file systems know no fsync of a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
