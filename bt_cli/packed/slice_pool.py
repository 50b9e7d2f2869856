"""Threads that each run the network on a slice of the work, instead of all of them on every product.

A layer is a dozen short kernels. Split among threads, each ends in a wait for the slowest; given whole slices, the
threads meet once. On two processors that is 5 % of the time in bfloat16 and 12 % in int8, and much more where other
programs take a processor now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_WORKERS = 8
"""Beyond this many the interpreter's lock is felt; each then has several of torch's threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SlicePool:
    """Runs slices side by side on the CPU; elsewhere, or with one thread, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 0
        self._inside = False

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
        size = self.size
        if size == 1 or len(items) < size or self._inside:
            with torch.inference_mode():
                return [work(item) for item in items]
        threads = torch.get_num_threads()
        if self._pool is None or self._threads != threads:
            self._pool = ThreadPoolExecutor(size, "bt-network")
            self._threads = threads
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
            return list(self._pool.map(alone, items))
        finally:
            self._inside = False
            torch.set_num_threads(threads)
