"""Image files to batches of pixels, decoded by threads while the network works on the batch before."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bt_cli.errors import UnreadableImage
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.files.processors import processor_count
from bt_cli.files.shown_path import shown_path
from bt_cli.preprocessing.image_file import ImageBytes, ImageSource, read_image_file
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.preprocessing.memory_budget import DECODING, Reservation
from bt_cli.sources.fetching import Fetching, fetched_ahead

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WORKERS = 16
"""More threads than this only wait for each other: the interpreter's lock is taken between decoding and resizing."""

WHOLE_FILE = 64 << 20
"""Bytes up to which a file that is hashed, too, is held in memory for both; a longer one is read twice."""


@dataclass
class DecodedBatch:
    """Images that follow each other in the sources, and those among them that can't be read."""

    indices: list[int]
    """Positions in the sources of the rows below, ascending."""
    pixel_values: NDArray[np.float32]
    """(n, 3, H, W) float32, contiguous; n may be 0. All rows are of one size by themselves: nothing is padded."""
    sizes: list[tuple[int, int]]
    """(width, height) of each whole upright image, in pixels."""
    hashes: list[str | None]
    """What `content_hash` made of each file's bytes; None without it, and for sources that aren't files."""
    stamps: list[tuple[int, int] | None]
    """(bytes, time of change in nanoseconds since 1970 or 0) of each image from the web; None for others."""
    facts: list[PhotoFacts]
    """When, with what and where each was taken."""
    errors: list[tuple[int, UnreadableImage]] = field(default_factory=list)
    """Positions in the sources that have no row, and why."""
    incomplete: list[tuple[int, str]] = field(default_factory=list)
    """Positions in the sources whose row is of an image that lacks some rows at its end, and a line that says it."""


@dataclass
class DecodingClock:
    """Where the time of a stream went, in seconds."""

    waiting: float = 0.0
    """The consumer waited for pixels."""
    elsewhere: float = 0.0
    """The consumer worked on a batch: the network, and writing its results."""
    decoding: float = 0.0
    """The threads' work, added up over them; waiting for a processor counts."""

    @property
    def slower(self) -> str:
        """ "decoding" or "network": which of them the other had to wait for."""
        return "decoding" if self.waiting > self.elsewhere else "network"


class _Row(NamedTuple):
    pixels: NDArray[np.float32]
    size: tuple[int, int]
    content_hash: str | None
    seconds: float
    incomplete: str | None
    stamp: tuple[int, int] | None
    facts: PhotoFacts


class _Pending(NamedTuple):
    """A batch in the making: one task per source, each filling its row of `values`."""

    first: int
    rows: list[Future[_Row]]
    values: NDArray[np.float32] | None
    """None where the size of the pixels depends on the image."""


class DecodeStream:
    """An iterator over `DecodedBatch`es in the order of the sources, a few batches ahead of whoever takes them.

    Rows and their order depend neither on the number of threads nor on the batch size. Memory is bounded, however many
    sources there are: `ahead` + 2 batches of pixels, and one image being decoded per thread, large ones as the
    process's budget (see `memory_budget`) lets them through. Threads do it, not processes: Pillow lets go of the
    interpreter's lock while decoding and resizing, and pixels need no copying.

    Iterate once, to the end or not; leaving a `with` block, or the loop's generator, ends the threads.
    """

    def __init__(
        self,
        sources: Iterable[ImageSource],
        processor: ImageProcessor,
        *,
        batch_size: int,
        workers: int | None = None,
        exact: bool = False,
        content_hash: Callable[[bytes | str | os.PathLike[str]], str] | None = None,
        allocate: Callable[[tuple[int, ...]], NDArray[np.float32]] | None = None,
        ahead: int = 2,
    ) -> None:
        """Nothing is read before iteration begins.

        Args:
            sources: What to decode, drawn lazily, in the thread that iterates.
            processor: The checkpoint's.
            batch_size: Sources in a batch; the last one may be smaller, and others by what can't be read.
            workers: Threads; None takes `default_workers()`, and 0 counts as 1.
            exact: Decode large JPEGs in full, see `ImageProcessor.resized`.
            content_hash: Called with each file's bytes, which are then read once for both purposes, or with the path
                of a file of more than `WHOLE_FILE` bytes.
            allocate: Makes the arrays of pixels, in page-locked memory for instance; None is `np.empty`.
            ahead: Batches in the making beside the one that is taken next.
        """
        if batch_size < 1 or ahead < 0 or (workers is not None and workers < 0):
            raise ValueError("batch_size begins at 1, workers and ahead at 0")
        self.clock = DecodingClock()
        self.workers = default_workers() if workers is None else max(workers, 1)
        self._processor = processor
        self._fetched = fetched_ahead(sources)
        self._sources = enumerate(self._fetched)
        self._batch_size = batch_size
        self._exact = exact
        self._content_hash = content_hash
        self._allocate = allocate or _empty
        self._ahead = ahead
        self._generator = self._batches()

    def __iter__(self) -> Iterator[DecodedBatch]:
        return self._generator

    def __enter__(self) -> DecodeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads; what they were decoding is dropped."""
        self._generator.close()

    def _batches(self) -> Generator[DecodedBatch, None, None]:
        pending: deque[_Pending] = deque()
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="bt-decode")
        try:
            while True:
                while len(pending) <= self._ahead and (begun := self._begin(threads)) is not None:
                    pending.append(begun)
                if not pending:
                    return
                for batch in self._finish(pending.popleft()):
                    left = time.perf_counter()
                    yield batch
                    self.clock.elsewhere += time.perf_counter() - left
        finally:
            self._fetched.close()
            threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self, threads: ThreadPoolExecutor) -> _Pending | None:
        sources = list(itertools.islice(self._sources, self._batch_size))
        if not sources:
            return None
        size = self._processor.output_size
        values = None if size is None else self._allocate((len(sources), 3, *size))
        rows = [
            threads.submit(self._decode, index, source, None if values is None else values[row])
            for row, (index, source) in enumerate(sources)
        ]
        return _Pending(sources[0][0], rows, values)

    def _decode(self, index: int, source: ImageSource | Fetching, out: NDArray[np.float32] | None) -> _Row:
        begun = time.perf_counter()
        name, content_hash, stamp = f"image {index}", None, None
        if isinstance(source, Fetching):
            name, source, stamp = _arrived(source)
            content_hash = None if self._content_hash is None else self._content_hash(source)
        elif isinstance(source, ImageBytes):
            name = shown_path(source.name)
        if isinstance(source, (str, os.PathLike)):
            name = shown_path(source)
            if self._content_hash is not None and not _is_long(source):
                source = read_image_file(source)
                content_hash = self._content_hash(source)
        with Reservation(DECODING) as memory:
            decoded = self._processor.decoded(source, exact=self._exact, name=name, reserve=memory.ask)
            pixels = self._processor.pixels(decoded, out=out, exact=self._exact)
            size, missing, facts = (decoded.width, decoded.height), decoded.missing, decoded.facts
            del decoded
        if self._content_hash is not None and isinstance(source, (str, os.PathLike)):
            content_hash = self._content_hash(source)
        incomplete = f"{name}: truncated, the last {missing:.1%} of its rows are filled in" if missing else None
        return _Row(pixels, size, content_hash, time.perf_counter() - begun, incomplete, stamp, facts)

    def _finish(self, pending: _Pending) -> Iterator[DecodedBatch]:
        """Waits for the batch; where sizes vary, one batch for each run of rows of equal size."""
        rows: list[tuple[int, _Row]] = []
        errors: list[tuple[int, UnreadableImage]] = []
        begun = time.perf_counter()
        for index, future in enumerate(pending.rows, start=pending.first):
            try:
                rows.append((index, future.result()))
            except UnreadableImage as error:
                errors.append((index, error))
        self.clock.waiting += time.perf_counter() - begun
        self.clock.decoding += sum(row.seconds for _, row in rows)
        if pending.values is not None:
            # A file that can't be read leaves a hole; the rows after it close ranks.
            kept = [index - pending.first for index, _ in rows]
            values = pending.values if not errors else pending.values[kept]
            yield _batch(rows, values, errors)
            return
        for _, run in itertools.groupby(rows, key=lambda row: row[1].pixels.shape):
            alike = list(run)
            values = self._allocate((len(alike), *alike[0][1].pixels.shape))
            np.stack([row.pixels for _, row in alike], out=values)
            yield _batch(alike, values, errors)
            errors = []
        if errors:
            yield _batch([], self._allocate((0, 3, 0, 0)), errors)


def _arrived(fetching: Fetching) -> tuple[str, bytes, tuple[int, int]]:
    """The name, the bytes and the stamp of an image from the web."""
    name = shown_path(fetching.url)
    try:
        found = fetching.result()
    except UnreadableImage as error:
        raise UnreadableImage(f"{name}: {error}") from error.__cause__
    return name, found.content, (len(found.content), found.modified_ns)


def _is_long(path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.getsize(path) > WHOLE_FILE
    except (OSError, ValueError):
        return False  # reading it will say what is wrong


def default_workers() -> int:
    """As many threads as there are processors for this process, up to `MOST_WORKERS`."""
    return min(processor_count(), MOST_WORKERS)


def _batch(
    rows: list[tuple[int, _Row]], values: NDArray[np.float32], errors: list[tuple[int, UnreadableImage]]
) -> DecodedBatch:
    return DecodedBatch(
        indices=[index for index, _ in rows],
        pixel_values=values,
        sizes=[row.size for _, row in rows],
        hashes=[row.content_hash for _, row in rows],
        stamps=[row.stamp for _, row in rows],
        facts=[row.facts for _, row in rows],
        errors=errors,
        incomplete=[(index, row.incomplete) for index, row in rows if row.incomplete],
    )


def _empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)
