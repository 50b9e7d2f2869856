"""Unfinished files and folders (`.NAME.XXXXXXXX.part`): locked while they are written, swept when their writer died.

The operating system lets go of a lock when the process that holds it ends, however it ends, so no number of a process
has to be believed. Where there are no such locks (Windows, some network file systems) nothing is swept.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 60.0
"""A part that was touched more recently stays: its writer may be about to lock it."""

_swept: set[tuple[Path, str]] = set()
"""Folders and names that this process has looked at; once is enough."""


def lock_part(descriptor: int) -> None:
    """Say, until the descriptor is closed, that the file or folder has a living writer."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock an unfinished folder while it is written."""
    descriptor = os.open(folder, os.O_RDONLY) if hasattr(os, "O_DIRECTORY") else -1
    try:
        if descriptor >= 0:
            lock_part(descriptor)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def sweep_parts(folder: Path, name: str) -> None:
    """Remove what dead writers of `name` left unfinished in `folder`; what can't be removed stays, silently."""
    if (folder, name) in _swept:
        return
    _swept.add((folder, name))
    ours = re.compile(re.escape(f".{name}.") + r"[0-9a-z_]{8}\.part")
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        with os.scandir(folder) as entries:
            parts = [entry.path for entry in entries if ours.fullmatch(entry.name) and not entry.is_symlink()]
        for part in parts:
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(part).st_mtime < GRACE_SECONDS:
                    continue
                descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.isdir(part):
                        shutil.rmtree(part)
                    else:
                        os.unlink(part)
                finally:
                    os.close(descriptor)
