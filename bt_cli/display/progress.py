"""Progress on stderr: a bar where a person is looking, a line a minute where a log is kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bt_cli.display import remarks
from bt_cli.display.closing_line import duration, rate

LINE_SECONDS = 60.0
"""Between two lines where stderr is no terminal."""

LEAST_SECONDS = 2.0
"""Work must have gone on so long before its rate is worth showing."""

_last_line = 0.0
"""When any block of this process last spoke in lines: of two blocks, one inside the other, the busy one speaks."""


@contextmanager
def progress(description: str, unit: str = "image") -> Iterator[Callable[[int, int], None]]:
    """Give a callback `tick(done, total)` that tells how far the work is, until the block ends.

    On a terminal that is a bar, which appears with the first tick; elsewhere (nohup, CI, a notebook) a line every
    `LINE_SECONDS`, also while nothing ticks yet. `unit` is a noun ("image", "pair"), and bytes are written in MB. The
    rate and the time left are those since the first tick, whose own work nobody timed. Under `--quiet` the
    callback does nothing.
    """
    if remarks.is_quiet():
        yield lambda done, total: None
        return
    shown = _Bar(description, unit) if _is_terminal() else _Lines(description, unit)
    try:
        yield shown.tick
    finally:
        shown.close()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False


class _Bar:
    def __init__(self, description: str, unit: str) -> None:
        self.description = description
        self.unit = unit
        self.bar: Any = None
        self.begun = 0.0

    def tick(self, done: int, total: int) -> None:
        if self.bar is None:
            self._open(done, total)
        bar = self.bar
        if total != bar.total:
            bar.total = total
        if time.monotonic() - self.begun >= LEAST_SECONDS:
            bar.bar_format = None
        bar.update(done - bar.n)
        if self.unit == "byte" and done >= total:
            # A download that is done makes room for the work that waited for it.
            self.close()

    def close(self) -> None:
        if self.bar is not None:
            remarks.set_bar(None)
            self.bar.close()
            self.bar = None

    def _open(self, done: int, total: int) -> None:
        from tqdm import tqdm

        # The unit is written behind the rate, where tqdm puts no space of its own.
        units: dict[str, Any] = {"unit": f" {self.unit}s"}
        if self.unit == "byte":
            units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        self.begun = time.monotonic()
        self.bar = tqdm(
            initial=done,
            total=total,
            desc=self.description,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}]",
            **units,
        )
        remarks.set_bar(self.bar)


class _Lines:
    """Speaks from a thread of its own, so that a step that takes long is no silence."""

    def __init__(self, description: str, unit: str) -> None:
        self.description = description
        self.unit = unit
        self.entered = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.last: tuple[float, int, int] | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._speak, name="bt-progress", daemon=True)
        self.thread.start()

    def tick(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, done)
        self.last = (now, done, total)

    def close(self) -> None:
        self.ended.set()
        self.thread.join()

    def _speak(self) -> None:
        global _last_line
        while not self.ended.wait(LINE_SECONDS):
            line = self.line(time.monotonic())
            if line is not None:
                _last_line = time.monotonic()
                remarks.remark(line)

    def line(self, now: float) -> str | None:
        """What there is to say now; None where the work is done, or another block speaks for this one."""
        if self.first is None or self.last is None:
            # What is on this machine already is never fetched: of a download that does not begin nothing is true.
            silent = self.unit != "byte" and now - _last_line >= 0.9 * LINE_SECONDS
            return f"{self.description}: not begun after {duration(now - self.entered)}" if silent else None
        (began, at_first), (ticked, done, total) = self.first, self.last
        if done >= total:
            return None
        parts = [f"{self.description}: {self._amount(done, total)}"]
        worked = ticked - began
        if worked >= min(LEAST_SECONDS, LINE_SECONDS) and done > at_first:
            speed = (done - at_first) / worked
            unit = f"{rate(speed / 2**20)} MB/s" if self.unit == "byte" else f"{rate(speed)} {self.unit}s/s"
            parts += [unit, f"{duration(max((total - done) / speed - (now - ticked), 0))} left"]
        return ", ".join(parts)

    def _amount(self, done: int, total: int) -> str:
        if self.unit == "byte":
            return f"{done / 2**20:,.0f} of {total / 2**20:,.0f} MB"
        return f"{done:,} of {total:,} {self.unit}s"
