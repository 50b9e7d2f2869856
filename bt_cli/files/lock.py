"""The writers' lock of an index folder: one writer at a time, readers never asked."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from types import TracebackType

from bt_cli.errors import IndexBusy, Unwritable
from bt_cli.files.shown_path import shown_path


class WriterLock:
    """Held while a process writes an index folder; the operating system lets go of it when that process ends,
    however it ends.

    So a lock is never stale: the file `lock` stays behind, the lock on it does not. The file tells who writes, for the
    message that others get.

    Raises (on entering):
        IndexBusy: Another process writes; names its number and machine.
        Unwritable: The folder can't be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.descriptor = -1

    def __enter__(self) -> WriterLock:
        path = self.folder / "lock"
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise Unwritable(f"{shown_path(self.folder)}: can't be written: {error.strerror}") from error
        try:
            _lock(self.descriptor)
        except OSError as error:
            writer = (
                os.pread(self.descriptor, 200, 0).decode("utf-8", "replace").strip() if hasattr(os, "pread") else ""
            )
            os.close(self.descriptor)
            self.descriptor = -1
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                who = f"process {writer}" if writer else "another process"
                raise IndexBusy(
                    f"{shown_path(self.folder)}: {who} is writing this index; wait until it is done"
                ) from None
            raise Unwritable(f"{shown_path(path)}: can't be locked: {error.strerror}") from error
        # Who writes is a courtesy to others: a full disk has room for the lock itself.
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            # Emptied, so that a later writer that has not yet written its name is not taken for this one.
            try:
                os.ftruncate(self.descriptor, 0)
            except OSError:
                pass
            os.close(self.descriptor)
            self.descriptor = -1


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: one byte, far behind the text, which others must be able to read
        import msvcrt

        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        # flock, not lockf: it belongs to the open file, so a second lock within the same process is refused too.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
