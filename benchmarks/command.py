"""One command as a process of its own: what it wrote, how long it took and how much memory at its peak."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

BT = (sys.executable, "-m", "bt_cli")

# A process is charged with the peak of whoever starts it, until it becomes another program: so a bare Python of some
# 10 MB does, and writes what it saw to the descriptor that it is given.
_STARTER = """
import os, sys, time
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - start
os.write(int(sys.argv[1]), b"%d %d %f" % (os.waitstatus_to_exitcode(status), usage.ru_maxrss, seconds))
"""


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
    seen, seen_end = os.pipe()
    with open(seen, "rb") as measured:
        starter = [sys.executable, "-I", "-S", "-c", _STARTER, str(seen_end)]
        with tempfile.TemporaryFile() as errors, open(seen_end, "wb"):
            ran = subprocess.run(
                [*starter, *command], stdout=subprocess.PIPE, stderr=errors, pass_fds=[seen_end], text=True
            )
            errors.seek(0)
            said = errors.read().decode().strip()
        figures = measured.read().split()
    if len(figures) != 3 or figures[0] != b"0":
        raise SystemExit(f"benchmark: {' '.join(map(str, command))} failed: {said}")
    return Finished(float(figures[2]), int(figures[1]) / 1024, ran.stdout)
