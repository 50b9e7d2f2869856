"""A loaded model as indexing wants it: files to embeddings, decoding beside the network."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.datasets.image_folder import content_hash
from bt_cli.retrieval.encoder import EncodedBatch
from bt_cli.retrieval.model_identity import identity_of
from bt_cli.store.identity import Identity

if TYPE_CHECKING:
    from bt_cli.inference.decoding import DecodingClock
    from bt_cli.inference.model import Model


class ModelEncoder:
    """Encodes with a model. Its weights are read with the first image or text, not before.

    Attributes:
        model: What encodes.
        clock: Where the time of the last `encode_files` went, or None.
    """

    def __init__(self, model: Model, *, batch_size: int | None = None, workers: int | None = None) -> None:
        self.model = model
        self.batch_size = batch_size or model.batch_size
        self.workers = workers
        self.clock: DecodingClock | None = None

    @cached_property
    def identity(self) -> Identity:
        """What makes the embeddings. Raises MissingHead for a checkpoint without ITC head."""
        return identity_of(self.model)

    def encode_files(self, paths: Sequence[str]) -> Generator[EncodedBatch, None, None]:
        """See `Encoder`."""
        from bt_cli.inference.decoding import DecodeStream

        processor = self.model.image_processor
        with DecodeStream(
            paths,
            processor,
            batch_size=self.batch_size,
            workers=self.workers,
            exact=self.model.exact_decoding,
            content_hash=content_hash,
        ) as stream:
            self.clock = stream.clock
            for batch in stream:
                yield EncodedBatch(
                    numbers=list(batch.indices),
                    embeddings=self._embeddings(batch.pixel_values, [paths[number] for number in batch.indices]),
                    content_hashes=[digest or "" for digest in batch.hashes],
                    widths=[width for width, _ in batch.sizes],
                    heights=[height for _, height in batch.sizes],
                    failures=[(number, str(error)) for number, error in batch.errors],
                )

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See `Encoder`."""
        return self.model.encode_texts(texts)

    def _embeddings(self, pixels: np.ndarray, files: list[str]) -> np.ndarray:
        if not len(pixels):
            return np.zeros((0, self.identity.dimension), np.float32)
        return self.model.encode_pixels(pixels, files=files)
