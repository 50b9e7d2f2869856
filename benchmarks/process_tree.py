"""What this process and all that it starts need together: processor seconds, and memory at the peak. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

PERIOD = 0.25
"""Seconds between two looks; a process that lives for less may be missed."""
_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessTree:
    """Watches the descendants of this process in a thread of its own, for as long as the `with` block lasts.

    Attributes:
        peak: The most that they had in memory at a time, bytes; a page that several share counts once (PSS).
    """

    def __init__(self) -> None:
        # What a process that has ended leaves behind becomes a child of ours, and stays in sight.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.peak = 0
        self._used: dict[tuple[int, int], int] = {}
        self._before: dict[tuple[int, int], int] = {}
        self._commands: dict[tuple[int, int], str] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessTree:
        self._look()
        self._before, self.peak = dict(self._used), 0
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def cpu(self, of: Callable[[str], bool] = lambda command: True) -> float:
        """Seconds of the processor that they took within the block, of those that have ended, too; `of` chooses by what
        a process calls itself."""
        chosen = [process for process, command in self._commands.items() if of(command)]
        return sum(self._used[process] - self._before.get(process, 0) for process in chosen) / _TICKS

    def _watch(self) -> None:
        while not self._done.wait(PERIOD):
            self._look()

    def _look(self) -> None:
        memory = 0
        for pid in descendants():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = _fields(pid)
                process = pid, int(fields[19])
                self._used[process] = max(self._used.get(process, 0), int(fields[11]) + int(fields[12]))
                self._commands[process] = command_line(pid) or self._commands.get(process, "")
                memory += _proportional(pid)
        self.peak = max(self.peak, memory)


def descendants(of: int | None = None) -> list[int]:
    """The process ids of all that a process started, and what those did; None: this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                children.setdefault(int(_fields(int(name))[1]), []).append(int(name))
    found: list[int] = []
    waiting = [os.getpid() if of is None else of]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def command_line(pid: int) -> str:
    """What a process was started as, or calls itself; "" where it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def wait_for_end(pids: list[int], seconds: float) -> None:
    """Wait until these processes are gone; ones that have ended and are ours to bury are buried."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not set(pids) & set(descendants()):
            return
        time.sleep(0.1)


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, those behind the name: state, parent, ..."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _proportional(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
