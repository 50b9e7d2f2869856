"""Writing a file so that it is either the old one or the new one, never half of each."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bt_cli.errors import Unwritable
from bt_cli.files.shown_path import shown_path

# Reading the umask means setting it for an instant: done once, on import, before there are threads.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file beside `path` for writing; on leaving it is synced to disk and takes the place of `path`.

    On an exception `path` stays as it was and the file beside it goes. Folders above are made.

    Raises:
        Unwritable: The folder can't be written or the disk is full.
    """
    path = Path(path)
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_UMASK)
        os.replace(beside, path)
        beside = None
        _sync_folder(path.parent)
    except OSError as error:
        in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = "a file stands where a folder is needed" if in_the_way else error.strerror or error
        raise Unwritable(f"{shown_path(path)}: can't be written: {reason}") from error
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) to `path` in one step; see `open_whole`."""
    with open_whole(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


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
