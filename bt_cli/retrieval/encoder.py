"""What turns files and texts into embeddings, as indexing sees it: a checkpoint behind two methods."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bt_cli.store.identity import Identity


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
    """Of the picture as it is shown (its orientation applied), pixels."""
    heights: list[int]
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(number, message) of files that could not be read; the message names the file."""


class Encoder(Protocol):
    """A checkpoint that encodes. `identity` must cost little: an update that finds nothing new asks for nothing
    else."""

    @property
    def identity(self) -> Identity:
        """What makes the embeddings."""

    def encode_files(self, paths: Sequence[str]) -> Generator[EncodedBatch, None, None]:
        """Embeddings of image files, batch after batch, in the order of `paths`."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (n, d) float32, rows of norm 1."""
