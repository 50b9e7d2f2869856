"""Many images or texts through one tower: batches in, rows out, in the order they were given."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bt_cli.bridgetower.states import ImageStates, TextStates
from bt_cli.errors import Misuse, UnreadableImage
from bt_cli.inference.token_batches import TOKENS_AT_ONCE, batches
from bt_cli.inference.truncation import warn_of_truncation
from bt_cli.preprocessing.decoding import DecodeStream
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.preprocessing.tokenizer import Tokenizer

LOG = logging.getLogger("bt_cli")

Progress = Callable[[int, int], None]
OnError = Callable[[int, UnreadableImage], None]

_TOKENS_AT_ONCE = {"cpu": TOKENS_AT_ONCE, "cuda": 32768, "mps": 8192}


def encode_in_batches(
    images: Iterable[Any],
    processor: ImageProcessor,
    encode: Callable[[Tensor], ImageStates],
    device: torch.device,
    *,
    batch_size: int,
    workers: int | None,
    exact: bool,
    progress: Progress | None,
    on_error: OnError | None,
) -> Iterator[tuple[list[int], ImageStates]]:
    """Yield (positions in `images`, their states), batch by batch; an image that can't be read is told to `on_error`,
    one that lacks some rows is remarked on.

    Images are drawn as they are needed. Decoding runs in threads beside the network. Where nobody knows how many
    images there will be, `progress` hears of those so far. Raises UnreadableImage where there is no `on_error`.
    """
    done = 0
    total = operator.length_hint(images)
    with DecodeStream(images, processor, batch_size=batch_size, workers=workers, exact=exact) as stream:
        for batch in stream:
            for position, error in batch.errors:
                if on_error is None:
                    raise error
                on_error(position, error)
            for _, message in batch.incomplete:
                LOG.warning(message)
            if batch.indices:
                yield list(batch.indices), encode(to_device(batch.pixel_values, device))
            done += len(batch.indices) + len(batch.errors)
            if progress is not None:
                progress(done, max(done, total))


def to_device(pixels: NDArray[np.float32], device: torch.device) -> Tensor:
    """(n, 3, H, W) float32 on `device`; to CUDA through pinned memory, without waiting."""
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Counted:
    """Passes on what it is given, which may be of no known number, and counts it."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items, self.count = items, 0

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.count += 1
            yield item

    def __length_hint__(self) -> int:
        return operator.length_hint(self.items)


def scattered(
    parts: Iterator[tuple[list[int], ImageStates]], count: Callable[[], int], dimension: int
) -> NDArray[np.float32]:
    """Embeddings (n, dimension) float32 of the parts, each row at its position; rows never reached are NaN.

    `count` tells n once all parts have come.
    """
    made = []
    for positions, states in parts:
        assert states.embeds is not None
        made.append((positions, states.embeds.cpu().numpy()))
    rows = np.full((count(), dimension), np.nan, dtype=np.float32)
    for positions, embeds in made:
        rows[positions] = embeds
    return rows


def gathered(parts: Iterator[tuple[list[int], ImageStates]], count: int) -> ImageStates:
    """States of all `count` images in order; NaN for those never reached.

    Raises Misuse where images differ in size after preprocessing, so that their states can't lie in one tensor.
    """
    bridges: Tensor | None = None
    embeds: Tensor | None = None
    for positions, states in parts:
        where = torch.tensor(positions)
        if states.bridges is not None:
            layers, _, patches, width = states.bridges.shape
            if bridges is None:
                bridges = states.bridges.new_full((layers, count, patches, width), float("nan"))
            if bridges.shape[2] != patches:
                raise Misuse("these images differ in size after preprocessing; encode them one size at a time")
            bridges[:, where.to(bridges.device)] = states.bridges
        if states.embeds is not None:
            if embeds is None:
                embeds = states.embeds.new_full((count, states.embeds.shape[1]), float("nan"))
            embeds[where.to(embeds.device)] = states.embeds
    return ImageStates(bridges, embeds)


def token_batches(
    texts: Sequence[str], tokenizer: Tokenizer, device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield (positions in `texts`, ids (B, T), mask (B, T)), texts of like length together: little is padding."""
    tokens = tokenizer.encode(texts)
    warn_of_truncation(texts, tokens, tokenizer)
    for batch in batches(tokens, _TOKENS_AT_ONCE.get(device.type, TOKENS_AT_ONCE)):
        yield batch.positions, torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)


def texts_in_order(parts: Sequence[tuple[list[int], TextStates]]) -> TextStates:
    """The states of all texts in the order they were given, padded to the longest."""
    states = TextStates.cat([part for _, part in parts])
    positions = [position for rows, _ in parts for position in rows]
    back = torch.empty(len(positions), dtype=torch.int64)
    back[torch.tensor(positions)] = torch.arange(len(positions))
    device = states.bridges.device if states.bridges is not None else None
    return states.select(back.to(device) if device is not None else back)
