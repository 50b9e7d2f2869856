"""Threads that each run the network on a slice of the work, instead of all of them on every product.

A layer is a dozen short kernels. Split among threads, each ends in a wait for the slowest; given whole slices, the
threads meet once. On two processors that is 5 % of the time in bfloat16 and 12 % in int8, and much more where other
programs take a processor now and then.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_WORKERS = 8
"""Beyond this many the interpreter's lock is felt; each then has several of torch's threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SlicePool:
    """Runs slices side by side on the CPU; elsewhere, or with one thread, one after the other.

    Its threads end when it is collected, or by `close`. A child of `os.fork` has only the thread that forked, and the
    network runs on that one there: see `_leave_threads_behind`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 0
        self._inside = False

    def close(self) -> None:
        """End the threads; work that comes later starts new ones."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def size(self) -> int:
        """How many slices run at a time."""
        return min(torch.get_num_threads(), MOST_WORKERS) if self.device.type == "cpu" else 1

    def share(self, count: int, most: int) -> int:
        """How many of `count` things to put into a slice: at most `most`, and fewer where that keeps everyone busy."""
        return max(1, min(most, -(-count // self.size)))

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`work` of each item, in order, in inference mode.

        Too few items to go round are done one by one with all threads at each.
        """
        _USED.add(self)
        size = self.size
        if size == 1 or len(items) < size or self._inside:
            with torch.inference_mode():
                return [work(item) for item in items]
        threads = torch.get_num_threads()
        pool = self._of_threads(threads)
        share = threads // size

        def alone(item: Item) -> Result:
            if torch.get_num_threads() != share:
                torch.set_num_threads(share)
            with torch.inference_mode():
                return work(item)

        # Set for this thread as well: of the libraries below, MKL has one number for the whole process.
        torch.set_num_threads(share)
        self._inside = True
        try:
            return list(pool.map(alone, items))
        finally:
            self._inside = False
            torch.set_num_threads(threads)

    def _of_threads(self, threads: int) -> ThreadPoolExecutor:
        """The pool, made anew where torch has been given another number of threads since.

        The one before may be at work for another thread; its own threads end when nobody holds it any more.
        """
        if self._pool is None or self._threads != threads:
            self._pool, self._threads = ThreadPoolExecutor(self.size, "bt-network"), threads
        return self._pool

    def _forget_threads(self) -> None:
        self._pool, self._inside = None, False


_USED: weakref.WeakSet[SlicePool] = weakref.WeakSet()


def _leave_threads_behind() -> None:
    """In a forked child: the pools' threads are gone, and so are those of OpenMP below torch.

    GNU's OpenMP would wait for its own for ever, at the first large product. One thread of torch's needs none of them:
    what torch's data loaders do in their children. A process that never ran a network here is left as it is.
    """
    used = [pool for pool in _USED if pool.device.type == "cpu"]
    if used:
        torch.set_num_threads(1)
    for pool in used:
        pool._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_threads_behind)
