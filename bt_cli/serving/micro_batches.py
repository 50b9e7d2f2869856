"""Questions of several requests answered in one go: what comes within a few milliseconds shares one pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from bt_cli.display.remarks import overheard

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class MicroBatches(Generic[Item, Answer]):
    """Gathers items from many threads and has them worked on together, in a thread of its own.

    A batch is what has come while the one before was worked on. Its first item waits `wait` seconds for company only
    where the batch before had some: who comes alone never waits.

    Args:
        work: Answers of items, in their order. What it raises is raised to each of them alone, once retried alone.
        most: Most items of a batch.
        wait: Seconds.
        counted: Hears the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        most: int,
        wait: float,
        name: str,
        counted: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._most, self._wait, self._counted = work, most, wait, counted
        self._line: SimpleQueue[tuple[Item, Future[Answer]] | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"bt-{name}", daemon=True)
        self._thread.start()

    def ask(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to some items, in order; other threads' items may be worked on with them."""
        futures: list[Future[Answer]] = [Future() for _ in items]
        with self._gate:
            open = not self._closed
            for item, future in zip(items, futures, strict=True) if open else ():
                self._line.put((item, future))
        return [future.result() for future in futures] if open else list(self._work(items))

    def close(self) -> None:
        """End the thread when it has answered what is in line; who asks later is answered without it."""
        with self._gate:
            self._closed = True
            self._line.put(None)

    def _serve(self) -> None:
        company = False
        while True:
            first = self._line.get()
            if first is None:
                return
            batch = [first]
            end = time.monotonic() + (self._wait if company else 0.0)
            closing = False
            while len(batch) < self._most and not closing:
                try:
                    item = self._line.get(timeout=max(end - time.monotonic(), 0.0))
                except Empty:
                    break
                closing = item is None
                if item is not None:
                    batch.append(item)
            company = len(batch) > 1
            self._answer(batch)
            if closing:
                return

    def _answer(self, batch: list[tuple[Item, Future[Answer]]]) -> None:
        self._counted(len(batch))
        try:
            with overheard():  # what there is to remark on an item is its owner's to find
                answers = self._work([item for item, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:  # one bad item must not spoil the others' answers
                self._answer([one])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
