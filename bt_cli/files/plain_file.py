"""Plain files: those with bytes of their own, which can be opened without waiting for anyone."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache
from typing import Any


def read_head(path: str | os.PathLike[str], length: int) -> bytes:
    """The first `length` bytes of a plain file; of anything else, and of a file that can't be read, none.

    Never waits: a pipe's writer, a device or a kernel's file that blocks is not asked.
    """
    try:
        if not is_plain(os.stat(path)):
            return b""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            return os.read(descriptor, length)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return b""


def open_plain(path: str | os.PathLike[str]) -> Any:
    """A plain file, open for reading bytes without a buffer; nothing else is waited for, or read.

    Raises:
        FileNotFoundError, PermissionError ...: As `open`.
        IsADirectoryError: A folder.
        OSError: A pipe, a device, a socket or a file of the kernel's.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not is_plain(status):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def is_plain(status: os.stat_result) -> bool:
    """Whether what was looked at is a file with bytes of its own: no pipe, device or socket, and none of the kernel's
    files below /proc and /sys, which call themselves regular and may block, or never end, when they are read."""
    return stat.S_ISREG(status.st_mode) and not is_kernels(status)


def is_kernels(status: os.stat_result) -> bool:
    """Whether a file or folder lies in a file system that the kernel makes up, such as /proc."""
    return status.st_dev in _kernel_devices()


@cache
def _kernel_devices() -> frozenset[int]:
    devices = set()
    places = ("/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/cgroup")
    for place in places:
        try:
            if os.path.ismount(place):
                devices.add(os.stat(place).st_dev)
        except OSError:
            continue
    return frozenset(devices)
