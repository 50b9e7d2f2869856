"""The memory that decoding may take: one budget for the process, whatever the number of threads."""

from __future__ import annotations

import threading
from types import TracebackType

DECODING_BYTES = 3 << 29
"""Bytes (1.5 GiB) that all images being decoded may take together; one that needs more than that is decoded alone."""


class MemoryBudget:
    """Bytes that threads reserve before they need them, waiting where others hold too much."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._freed = threading.Condition()

    @property
    def held(self) -> int:
        """Bytes that are reserved now."""
        return self._held

    def take(self, size: int) -> None:
        """Wait until `size` bytes fit, or nobody holds any, and take them."""
        with self._freed:
            self._freed.wait_for(lambda: self._held == 0 or self._held + size <= self.size)
            self._held += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._freed:
            self._held -= size
            self._freed.notify_all()


class Reservation:
    """What one thread holds of a budget, for a `with` block. It never waits while it holds: two can't block each
    other."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def ask(self, size: int) -> None:
        """Hold at least `size` bytes, waiting for them."""
        if size > self._size:
            self._drop()
            self._budget.take(size)
            self._size = size

    def _drop(self) -> None:
        if self._size:
            self._budget.give(self._size)
            self._size = 0


DECODING = MemoryBudget(DECODING_BYTES)
"""The process's."""
