"""What was encoded before, kept in memory under a budget of bytes: the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.store.bridge_cache import BridgeCache, file_key

IMAGE_BYTES = 256 << 20
TEXT_BYTES = 1 << 30

OnError = Callable[[int, UnreadableImage], None]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteCache(Generic[Key, Value]):
    """Values by key, of which `size_of` gives the bytes; never more than `limit` bytes of them. Threads may share one.

    Raises Misuse for a limit that is infinite, not a number or negative.
    """

    def __init__(self, limit: float, size_of: Callable[[Value], int]) -> None:
        if not 0 <= limit < float("inf"):
            raise Misuse(f"a cache of {limit} bytes can't be kept; give a finite number, 0 for none")
        self.limit, self.size_of = int(limit), size_of
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    @property
    def room(self) -> int:
        """Bytes that are left without dropping anything."""
        return self.limit - self._bytes

    def get(self, key: Key) -> Value | None:
        """The value, which counts as used now; None where it is not kept."""
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def put(self, key: Key, value: Value, *, evict: bool = True) -> bool:
        """Keep a value; returns whether it is kept. Without `evict` nothing goes to make room for it."""
        size = self.size_of(value)
        with self._lock:
            if key in self._kept:
                return True
            if size > (self.limit if evict else self.room):
                return False
            self._kept[key] = value
            self._bytes += size
            while self._bytes > self.limit:
                self._bytes -= self.size_of(self._kept.popitem(last=False)[1])
            return True

    def pop(self, key: Key) -> Value | None:
        """The value, kept no longer; None where it was not."""
        with self._lock:
            value = self._kept.pop(key, None)
            if value is not None:
                self._bytes -= self.size_of(value)
            return value

    def clear(self) -> None:
        """Keep nothing of what is here."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0


class TextCache:
    """States of `texts` by position: each text is encoded once while there is room, and again only when it was dropped.

    `encode(texts)` gives the states of some texts in order.
    """

    def __init__(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], TextStates], limit: float = TEXT_BYTES
    ) -> None:
        self.texts, self.encode = texts, encode
        self._states: ByteCache[int, TextStates] = ByteCache(limit, bytes_of)

    def take(self, positions: Sequence[int]) -> TextStates:
        """States of the texts at `positions`, in that order, padded to the longest of them."""
        found = {position: self._states.get(position) for position in positions}
        missing = [position for position, states in found.items() if states is None]
        if missing:
            fresh = _one_by_one(self.encode([self.texts[position] for position in missing]))
            found.update(zip(missing, fresh, strict=True))
            for position, alone in zip(missing, fresh, strict=True):
                self._states.put(position, alone)
        return TextStates.cat([states for position in positions if (states := found[position]) is not None])


class ImageCache:
    """Bridge features (L, P, h) of image files: looked up before these are decoded, kept where they had to be made.

    `memory` holds them by `file_key`; `disk` is the cache beside an index, if any. Found ones come on `device` in
    `dtype`.
    """

    def __init__(
        self, memory: ByteCache[bytes, Tensor], disk: BridgeCache | None, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.memory, self.disk, self.device, self.dtype = memory, disk, device, dtype

    @staticmethod
    def in_memory(limit: float = IMAGE_BYTES) -> ByteCache[bytes, Tensor]:
        """A new cache of single images' features."""
        return ByteCache(limit, lambda features: features.nbytes)

    def find(self, image: Any) -> Tensor | None:
        """(L, P, h) of an image file, None where it is not known."""
        key = file_key(image)
        if key is None:
            return None
        features = self.memory.get(key)
        if features is None and self.disk is not None:
            features = self.disk.get(key)
            if features is not None:
                self.memory.put(key, features)
        return features

    def keep(self, images: Sequence[Any], bridges: Tensor) -> None:
        """Keep (L, n, P, h), the features of `images`, where these are files."""
        for image, features in zip(images, bridges.unbind(1), strict=True):
            key = file_key(image)
            if key is not None:
                # In memory of its own: a view would hold the whole batch.
                self.memory.put(key, features.cpu().clone())
                if self.disk is not None:
                    self.disk.put(key, features.cpu())

    def parts(
        self,
        images: Sequence[Any],
        make: Callable[[Sequence[Any], OnError | None], Iterator[tuple[list[int], ImageStates]]],
        *,
        batch_size: int,
        on_error: OnError | None,
    ) -> Iterator[tuple[list[int], ImageStates]]:
        """Yield (positions, states) of the known images in batches, then of the rest as `make` makes them."""
        rest: list[int] = []
        found: list[tuple[int, Tensor]] = []
        for position, image in enumerate(images):
            features = self.find(image)
            if features is None:
                rest.append(position)
                continue
            if found and (len(found) == batch_size or features.shape != found[0][1].shape):  # sizes may vary by image
                yield self._stacked(found)
                found = []
            found.append((position, features))
        if found:
            yield self._stacked(found)
        tell = None if on_error is None else lambda position, error: on_error(rest[position], error)
        for positions, states in make([images[position] for position in rest], tell) if rest else ():
            back = [rest[position] for position in positions]
            self.keep([images[position] for position in back], states.need_bridges())
            yield back, states

    def _stacked(self, found: list[tuple[int, Tensor]]) -> tuple[list[int], ImageStates]:
        bridges = torch.stack([features for _, features in found], dim=1).to(self.device, self.dtype)
        return [position for position, _ in found], ImageStates(bridges)


def bytes_of(states: ImageStates | TextStates) -> int:
    """Bytes of the bridge features of encoded images or texts: what else there is of them is small beside these."""
    return states.need_bridges().nbytes


def _one_by_one(states: TextStates) -> list[TextStates]:
    """Each text alone, cut to its own length and in memory of its own."""
    bridges = states.need_bridges()
    alone = []
    for row in range(bridges.shape[1]):
        length = bridges.shape[2] if states.keep is None else int(states.keep[row].sum())
        embeds = None if states.embeds is None else states.embeds[row : row + 1]
        alone.append(TextStates(bridges[:, row : row + 1, :length].clone(), None, embeds))
    return alone
