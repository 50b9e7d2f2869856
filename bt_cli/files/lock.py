"""The writers' lock of a folder: one writer at a time, readers never asked."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType

from bt_cli.errors import IndexBusy, Unwritable
from bt_cli.files.shown_path import shown_path

OWNER_BYTES = 200
_OPENED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class WriterLock:
    """Held while a process writes a folder; the operating system lets go of it when that process ends, however it
    ends.

    So a lock is never stale: the file `lock` stays behind, the lock on it (filelock's) does not. The file tells who
    writes, for the message that others get. A link in its place is refused: what it points to is nobody's lock.

    Raises (on entering):
        IndexBusy: Another process writes; names its number and machine.
        Unwritable: The folder can't be written, or its `lock` is no plain file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "lock"
        self.held = False

    def __enter__(self) -> WriterLock:
        from filelock import FileLock, Timeout

        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise Unwritable(f"{shown_path(self.path)}: is a link or no plain file; remove it, bt makes its own")
        self._lock = FileLock(self.path, thread_local=False)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            who = f"process {writer}" if (writer := self._owner()) else "another process"
            raise IndexBusy(f"{shown_path(self.folder)}: {who} is writing this index; wait until it is done") from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Unwritable(f"{shown_path(self.folder)}: can't be written: {reason}") from error
        self.held = True
        self._name(f"{os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.held:
            # Emptied, so that a later writer that has not yet written its name is not taken for this one.
            self._name(b"")
            self._lock.release()
            self.held = False

    def _owner(self) -> str:
        with contextlib.suppress(OSError):  # Windows lets nobody read a locked file
            descriptor = os.open(self.path, os.O_RDONLY | _OPENED)
            try:
                return os.read(descriptor, OWNER_BYTES).decode("utf-8", "replace").strip()
            finally:
                os.close(descriptor)
        return ""

    def _name(self, owner: bytes) -> None:
        """Write who holds the lock: a courtesy to others, for which a full disk need have no room."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY | _OPENED)
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, owner)
            finally:
                os.close(descriptor)
