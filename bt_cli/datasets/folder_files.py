"""The files of a folder that holds nothing but images by their names, looked at all at once: names as one run of bytes,
sizes and times as integers. In a large tree a second process looks at every other folder; it runs this file as it
stands, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Collection, Iterator
from typing import IO, NamedTuple

HEADER = struct.Struct("<qq")
"""Of an answer: files, or -1 for a folder that needs a closer look, and bytes of their names."""
WAITING = 2
"""Folders that the second process has been asked for and has not answered; more would only wait in the pipe."""
PIPE_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_BY_DESCRIPTOR = os.scandir in os.supports_fd


class FolderFiles(NamedTuple):
    """The images of a folder, by their names compared as bytes."""

    folder: str
    names: bytes
    """As the file system has them, a zero byte between two."""
    sizes: array[int]
    """(n,) int64: bytes."""
    times: array[int]
    """(n,) int64: nanoseconds since 1970."""

    def each(self) -> Iterator[tuple[str, int, int]]:
        """(path, size, time of change) of each."""
        above = os.path.join(self.folder, "")
        names = os.fsdecode(self.names).split("\0")
        yield from zip((above + name for name in names), self.sizes, self.times, strict=True)

    def paths(self) -> bytes:
        """The paths' bytes, a zero byte between two."""
        above = os.fsencode(os.path.join(self.folder, ""))
        return above + self.names.replace(b"\0", b"\0" + above)


def folder_files(folder: str, suffixes: Collection[str]) -> FolderFiles | None:
    """The files of a folder if each is plain, on the folder's own device, not hidden, and has one of the suffixes
    (lower case, with the dot); None for a folder that is empty, holds anything else, or can't be read."""
    if not _BY_DESCRIPTOR:
        return None
    try:
        descriptor = os.open(folder, _FOLDER)  # from which a file is found without going through the folders above
    except OSError:
        return None
    try:
        return _files(folder, descriptor, suffixes)
    except (OSError, OverflowError):  # a time beyond 64 bits is for the closer look, too
        return None
    finally:
        os.close(descriptor)


def _files(folder: str, descriptor: int, suffixes: Collection[str]) -> FolderFiles | None:
    entries = {}
    with os.scandir(descriptor) as found:
        for entry in found:
            if not entry.is_file(follow_symlinks=False):
                return None
            entries[entry.name] = entry
    joined = "\0".join(entries)
    if not entries or joined[0] == "." or "\0." in joined:
        return None
    if not all(end.lower() in suffixes for end in {name[name.rfind(".") :] for name in entries}):
        return None
    names = sorted(entries) if joined.isascii() else sorted(entries, key=os.fsencode)
    sizes, times, devices = array("q"), array("q"), {os.fstat(descriptor).st_dev}
    for name in names:
        # Taken out, as it would keep what it is told: garbage collections for each thousand of them take a twentieth.
        status = entries.pop(name).stat(follow_symlinks=False)
        sizes.append(status.st_size)
        times.append(status.st_mtime_ns)
        devices.add(status.st_dev)
    return FolderFiles(folder, os.fsencode("\0".join(names)), sizes, times) if len(devices) == 1 else None


class SecondReader:
    """A process that looks at folders while this one looks at others; where it can't be had, or ends, this one does.

    Args:
        suffixes: As `folder_files`.
    """

    def __init__(self, suffixes: Collection[str]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: deque[str] = deque()
        self._answers: dict[str, FolderFiles | None] = {}
        command = [sys.executable, "-I", "-S", __file__, *suffixes]
        # A program that was frozen into one file would be started itself.
        if sys.executable and not getattr(sys, "frozen", False) and os.path.isfile(__file__):
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
                )
                assert self._process.stdout is not None
                _widen(self._process.stdout)

    @property
    def has_room(self) -> bool:
        """Whether another folder may be asked for."""
        return self._process is not None and len(self._asked) < WAITING

    def ask(self, folder: str) -> None:
        """Have a folder looked at."""
        if self._process is not None and folder not in self._answers and folder not in self._asked:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(os.fsencode(folder) + b"\0")
                self._asked.append(folder)
            except OSError:
                self.close()

    def was_asked(self, folder: str) -> bool:
        """Whether there is, or will be, an answer."""
        return folder in self._answers or folder in self._asked

    def answer(self, folder: str) -> FolderFiles | None:
        """As `folder_files`, of a folder that was asked for; None, too, where the process ended."""
        try:
            while folder in self._asked:
                assert self._process is not None
                assert self._process.stdout is not None
                first = self._asked[0]
                self._answers[first] = _received(self._process.stdout, first)
                self._asked.popleft()
        except (OSError, EOFError):
            self.close()
        return self._answers.pop(folder, None)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._asked.clear()
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            process.wait()


def _received(pipe: IO[bytes], folder: str) -> FolderFiles | None:
    count, size = HEADER.unpack(_exactly(pipe, HEADER.size))
    if count < 0:
        return None
    names, sizes, times = _exactly(pipe, size), array("q"), array("q")
    sizes.frombytes(_exactly(pipe, 8 * count))
    times.frombytes(_exactly(pipe, 8 * count))
    return FolderFiles(folder, names, sizes, times)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = pipe.read(size)
        if not part:
            raise EOFError("the second process ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _widen(pipe: IO[bytes]) -> None:
    """Let whole folders wait in the pipe, so that the other process need not."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _answer_all(suffixes: Collection[str]) -> None:
    """What the second process does: an answer to each folder's path, until there are no more."""
    rest = b""
    while block := os.read(0, 1 << 16):
        *folders, rest = (rest + block).split(b"\0")
        for folder in folders:
            found = folder_files(os.fsdecode(folder), suffixes)
            if found is None:
                answer = HEADER.pack(-1, 0)
            else:
                header = HEADER.pack(len(found.sizes), len(found.names))
                answer = b"".join([header, found.names, found.sizes.tobytes(), found.times.tobytes()])
            left = memoryview(answer)
            while left:
                left = left[os.write(1, left) :]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _answer_all(frozenset(sys.argv[1:]))
