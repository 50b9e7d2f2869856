"""Many images of the web at once: on their way while others are decoded, never more than a bounded number."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import Any

from bt_cli.errors import UnreadableImage
from bt_cli.sources.member import at_hand
from bt_cli.sources.remote_image import read_remote
from bt_cli.sources.web_address import is_url
from bt_cli.sources.web_image import Fetched

CONNECTIONS = 32
"""Fetched at a time: what one takes is waiting for the most part."""
AHEAD_BYTES = 256 << 20
"""No further fetch begins while so many bytes that came wait to be decoded."""


class Fetching:
    """An image that is on its way, or here already: in a shard of which a copy is kept.

    Attributes:
        url: Where it comes from.
        wanted: Somebody waits for it: it is fetched, whatever came before those that it was to wait for.
    """

    def __init__(self, url: str, held: _Held | None) -> None:
        self.url = url
        self.wanted = False
        self._held = held
        self._answer: Future[Fetched] = Future()

    def run(self) -> None:
        """Fetch it, in whatever thread calls."""
        try:
            found = read_remote(self.url)
        except BaseException as error:
            self._answer.set_exception(error)
        else:
            if self._held is not None:
                self._held.add(len(found.content))
            self._answer.set_result(found)

    def result(self) -> Fetched:
        """What came, once it has come; to be asked for once.

        Raises:
            UnreadableImage: It can't be had; the reason, without the address.
        """
        if self._held is None:  # read by whoever decodes it: to hand it over takes longer than reading
            return read_remote(self.url)
        self._held.want(self)
        try:
            found = self._answer.result()
        except UnreadableImage as error:
            raise UnreadableImage(str(error)) from error  # of its own: threads may share none
        self._held.add(-len(found.content))
        return found


class _Held:
    """How many bytes came and were not handed out yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = 0
        self._closed = False

    def add(self, size: int) -> None:
        with self._changed:
            self._bytes += size
            self._changed.notify_all()

    def want(self, fetching: Fetching) -> None:
        with self._changed:
            fetching.wanted = True
            self._changed.notify_all()

    def wait(self, fetching: Fetching) -> bool:
        """Wait until there is room; false where nobody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or fetching.wanted or self._bytes < AHEAD_BYTES)
            return not self._closed

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def fetched_ahead(sources: Iterable[Any]) -> Generator[Any, None, None]:
    """The same sources in their order; each address on the web as a `Fetching`, the next ones begun already.

    Sources are drawn one by one until an address is among them, and from then on `CONNECTIONS` ahead. The threads end
    with the generator, and do not keep a process that is done.
    """
    waiting: deque[Any] = deque()
    drawn = iter(sources)
    threads: _Threads | None = None
    try:
        while True:
            while len(waiting) < (1 if threads is None else CONNECTIONS):
                source = next(drawn, drawn)
                if source is drawn:
                    break
                if isinstance(source, str) and is_url(source):
                    if at_hand(source) is not None:
                        source = Fetching(source, None)
                    else:
                        threads = threads or _Threads()
                        source = threads.begin(source)
                waiting.append(source)
            if not waiting:
                return
            yield waiting.popleft()
    finally:
        if threads is not None:
            threads.close()


class _Threads:
    """Threads that fetch; daemons, so that an interrupted process waits for no server."""

    def __init__(self) -> None:
        self._held = _Held()
        self._asked: queue.SimpleQueue[Fetching | None] = queue.SimpleQueue()
        self._started = 0

    def begin(self, url: str) -> Fetching:
        fetching = Fetching(url, self._held)
        self._asked.put(fetching)
        if self._started < CONNECTIONS:
            self._started += 1
            threading.Thread(target=self._work, name="bt-fetch", daemon=True).start()
        return fetching

    def close(self) -> None:
        self._held.close()
        for _ in range(self._started):
            self._asked.put(None)

    def _work(self) -> None:
        while (fetching := self._asked.get()) is not None:
            if not self._held.wait(fetching):
                return
            fetching.run()
