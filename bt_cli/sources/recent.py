"""What was opened last, kept for whoever asks again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Opened = TypeVar("Opened")


class Recent(Generic[Key, Opened]):
    """At most `most` opened things, the one that was not asked for the longest let go first; for any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Key, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def peek(self, key: Key) -> Opened | None:
        """What is kept for a key; nothing is opened, and nobody who opens something waited for."""
        return self._kept.get(key)

    def get(self, key: Key, opened: Callable[[], Opened]) -> Opened:
        """What is kept for a key, else what `opened` gives, which no other thread opens meanwhile."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = opened()
            self._kept.move_to_end(key)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
            return self._kept[key]
