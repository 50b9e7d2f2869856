"""One command as a process of its own: what it wrote, how long it took and how much memory at its peak."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

BT = (sys.executable, "-m", "bt_cli")


class Finished(NamedTuple):
    """A command that has run and succeeded."""

    seconds: float
    peak: float
    """Most memory that it held, MB."""
    written: str
    """On stdout."""


def run(*command: str | os.PathLike[str]) -> Finished:
    """Run to the end.

    Raises:
        SystemExit: The command failed; with what it said on stderr.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        written = process.stdout.read().decode()
        # Not wait(): the peak is known to whoever waits for the process, and asks for it.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"benchmark: {' '.join(map(str, command))} failed: {errors.read().decode().strip()}")
    return Finished(seconds, usage.ru_maxrss / 1024, written)
