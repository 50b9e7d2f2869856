"""What turns files and texts into embeddings, as indexing sees it: a checkpoint behind two methods."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bt_cli.datasets.image_folder import content_hash
from bt_cli.embeddings.identity import Identity
from bt_cli.errors import UnreadableImage
from bt_cli.inference.model_identity import identity_of

if TYPE_CHECKING:
    from bt_cli.files.photo_facts import PhotoFacts
    from bt_cli.inference.model import Model
    from bt_cli.preprocessing.decoding import DecodingClock


@dataclass
class EncodedBatch:
    """Images that went through the network together, and the files before them that could not be read."""

    numbers: list[int]
    """Which of the files that were asked for, counting from 0."""
    embeddings: np.ndarray
    """(n, d) float32, rows of norm 1."""
    content_hashes: list[str]
    """SHA-256 of each file as it was read, hex."""
    widths: list[int]
    """Of the image as it is shown (its orientation applied), pixels."""
    heights: list[int]
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(number, message) of files that could not be read; the message names the file."""
    incomplete: list[tuple[int, str]] = field(default_factory=list)
    """(number, message) of files that were encoded and lack some rows at their end."""
    stamps: list[tuple[int, int] | None] | None = None
    """(size, time of change in nanoseconds) of each image from the web, whose file nobody could look at before; None
    for others, and for a batch without such images."""
    facts: Sequence[PhotoFacts] = ()
    """When, with what and where each was taken; none at all where nobody looked."""


class FileEncoder(Protocol):
    """A checkpoint that encodes. `identity` must cost little: an update that finds nothing new asks for nothing
    else."""

    @property
    def identity(self) -> Identity:
        """What makes the embeddings."""

    def encode_files(
        self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> Generator[EncodedBatch, None, None]:
        """Embeddings of image files, batch after batch, in the order of `paths`; with `captions`, those of each file,
        of the file together with them where it has some."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (n, d) float32, rows of norm 1."""


class ModelEncoder:
    """Encodes with a model. Its weights are read with the first image or text, not before.

    Attributes:
        model: What encodes.
        clock: Where the time of the last `encode_files` went, or None.
    """

    def __init__(self, model: Model, *, batch_size: int | None = None, workers: int | None = None) -> None:
        self.model = model
        self._batch_size = batch_size
        self.workers = workers
        self.clock: DecodingClock | None = None

    @cached_property
    def identity(self) -> Identity:
        """What makes the embeddings. Raises MissingHead for a checkpoint without ITC head."""
        return identity_of(self.model)

    def encode_files(
        self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> Generator[EncodedBatch, None, None]:
        """See `FileEncoder`. Raises MissingHead for `captions` and a checkpoint without cross-modal ITC head."""
        from bt_cli.preprocessing.decoding import DecodeStream

        processor = self.model.image_processor
        with DecodeStream(
            paths,
            processor,
            batch_size=self._batch_size or self.model.batch_size,
            workers=self.workers,
            exact=self.model.exact_decoding,
            content_hash=content_hash,
        ) as stream:
            self.clock = stream.clock
            for batch in stream:
                files = [paths[number] for number in batch.indices]
                if captions is None:
                    embeddings = self._embeddings(batch.pixel_values, files)
                else:
                    texts = [captions[number] for number in batch.indices]
                    embeddings = self.model.encode_captioned(batch.pixel_values, texts, files=files)
                yield EncodedBatch(
                    numbers=list(batch.indices),
                    embeddings=embeddings,
                    content_hashes=[digest or "" for digest in batch.hashes],
                    widths=[width for width, _ in batch.sizes],
                    heights=[height for _, height in batch.sizes],
                    stamps=batch.stamps,
                    facts=batch.facts,
                    failures=[(number, str(error)) for number, error in batch.errors],
                    incomplete=batch.incomplete,
                )

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See `FileEncoder`."""
        return self.model.encode_texts(texts)

    def encode_pairs(
        self, paths: Sequence[str], texts: Sequence[str], on_error: Callable[[int, UnreadableImage], None]
    ) -> np.ndarray:
        """Embeddings of image files each with its text, (n, d) float32 of norm 1; those that can't be read are NaN and
        told to `on_error(position, error)`. Raises MissingHead for a checkpoint without cross-modal ITC head."""
        return self.model.encode_pairs(paths, texts, on_error=on_error)

    def _embeddings(self, pixels: np.ndarray, files: list[str]) -> np.ndarray:
        if not len(pixels):
            return np.zeros((0, self.identity.dimension), np.float32)
        return self.model.encode_pixels(pixels, files=files)
