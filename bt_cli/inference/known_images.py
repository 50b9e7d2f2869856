"""Images whose bridge features need not be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bt_cli.bridgetower.states import ImageStates
from bt_cli.errors import UnreadableImage
from bt_cli.inference.feature_cache import DiskCache, MemoryCache, file_key

OnError = Callable[[int, UnreadableImage], None]


class KnownImages:
    """Looks bridge features up before images are decoded, and keeps those that had to be made."""

    def __init__(self, memory: MemoryCache, disk: DiskCache | None, device: torch.device, dtype: torch.dtype) -> None:
        self.memory, self.disk, self.device, self.dtype = memory, disk, device, dtype

    def find(self, image: Any) -> Tensor | None:
        """(L, P, h) of an image file, None where it is not known."""
        key = file_key(image)
        if key is None:
            return None
        block = self.memory.get(key)
        if block is None and self.disk is not None:
            block = self.disk.get(key)
            if block is not None:
                self.memory.put(key, block)
        return block

    def keep(self, images: Sequence[Any], bridges: Tensor) -> None:
        """Keep (L, n, P, h), the features of `images`, where these are files."""
        for image, block in zip(images, bridges.unbind(1), strict=True):
            key = file_key(image)
            if key is not None:
                self.memory.put(key, block.cpu())
                if self.disk is not None:
                    self.disk.put(key, block.cpu())

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
            block = self.find(image)
            if block is None:
                rest.append(position)
                continue
            if found and (len(found) == batch_size or block.shape != found[0][1].shape):  # sizes may vary by image
                yield self._stacked(found)
                found = []
            found.append((position, block))
        if found:
            yield self._stacked(found)
        tell = None if on_error is None else lambda position, error: on_error(rest[position], error)
        for positions, states in make([images[position] for position in rest], tell) if rest else ():
            back = [rest[position] for position in positions]
            self.keep([images[position] for position in back], states.need_bridges())
            yield back, states

    def _stacked(self, found: list[tuple[int, Tensor]]) -> tuple[list[int], ImageStates]:
        bridges = torch.stack([block for _, block in found], dim=1).to(self.device, self.dtype)
        return [position for position, _ in found], ImageStates(bridges)
