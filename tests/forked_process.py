"""A forked process that does a piece of work and may be killed at it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from bt_cli.errors import BtError

REFUSED = 3
"""The exit code where bt refused, after saying why."""


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its number. It ends without any clean-up, as a killed one does: with 0, with
    `REFUSED`, or with 1 after any other error."""
    child = os.fork()
    if child == 0:
        without_team()
        code = 1
        try:
            work()
            code = 0
        except BtError as error:
            code = REFUSED
            os.write(2, f"bt: {error}\n".encode())
        finally:
            os._exit(code)
    return child


def without_team() -> None:
    """Let FAISS compute in the one thread that a forked process has: of those that OpenMP keeps for the parent, which
    may have trained lists before, there are none here, and it would wait for them for ever."""
    faiss = sys.modules.get("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(1)
