"""Lanes of worker threads: work of one kind waits behind its own kind alone, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from bt_cli.display.remarks import overheard
from bt_cli.serving.refusals import Refusal

Result = TypeVar("Result")


class Cancelled(Exception):
    """The work is not wanted any more: its caller has gone, its time is up, or the server stops."""


class Job:
    """A piece of work that may be called off while it runs: between batches it asks whether it still is wanted.

    Attributes:
        remarks: What there was to remark on it, which is its caller's to hear.
    """

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._off = threading.Event()

    def cancel(self) -> None:
        """Call it off."""
        self._off.set()

    def check(self, done: int = 0, total: int = 0) -> None:
        """Raises Cancelled where the work has been called off; takes the arguments of a `progress`."""
        if self._off.is_set():
            raise Cancelled


class Lane:
    """Threads for one kind of work, and a line before them of bounded length.

    Attributes:
        name: For threads and metrics.
        inside: Requests that run or wait.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name, self.most = name, threads + waiting
        self.inside = 0
        self._pool = ThreadPoolExecutor(threads, f"bt-{name}")
        self._jobs: set[Job] = set()

    async def run(self, work: Callable[[Job], Result], *, gone: Callable[[], Any], seconds: float) -> Result:
        """The result of `work(job)`, done in a thread of this lane.

        Args:
            work: What to do; it calls `job.check` where it can be interrupted.
            gone: An awaitable function that returns when nobody waits for the result any more.
            seconds: Most time, waiting included.

        Raises:
            Refusal: The line is full (503), or the time is up (504).
            Cancelled: The caller has gone, or the lane was closed.
        """
        if self.inside >= self.most:
            raise Refusal(503, "overloaded_error", f"{self.most} requests wait for the {self.name} lane; try again")
        job = Job()
        self.inside += 1
        self._jobs.add(job)
        future = asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(_checked, work, job))
        future.add_done_callback(lambda done: self._leave(job, done))
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({future, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if left.done():
                raise Cancelled
            raise Refusal(504, "timeout_error", f"not done within {seconds:g} s; ask for less at a time")
        finally:
            job.cancel()
            left.cancel()

    def close(self) -> None:
        """Call everything off and end the threads."""
        for job in list(self._jobs):
            job.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, job: Job, done: asyncio.Future[Any]) -> None:
        self.inside -= 1
        self._jobs.discard(job)
        if not done.cancelled():
            done.exception()  # looked at, or asyncio would log what nobody waits for


def _checked(work: Callable[[Job], Result], job: Job) -> Result:
    job.check()  # it may have been called off while it waited
    with overheard() as job.remarks:
        return work(job)
