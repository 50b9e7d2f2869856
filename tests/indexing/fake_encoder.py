"""An exact stand-in for a checkpoint: a file's embedding is a function of its bytes, a text's of its letters, and
every one is counted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from bt_cli.datasets.image_folder import content_hash
from bt_cli.embeddings.identity import Identity
from bt_cli.indexing.encoder import EncodedBatch
from bt_cli.sources.member import read_member

DIMENSION = 16


def embedding_of(content: bytes, dimension: int = DIMENSION) -> np.ndarray:
    """(dimension,) float32 of norm 1."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def joined(content: bytes, captions: Sequence[str]) -> bytes:
    """What a pair's embedding is a function of."""
    return content + "".join(f"\n{text}" for text in captions).encode()


class FakeEncoder:
    """Files that begin with `broken` can't be read; others are as wide as they are long."""

    def __init__(
        self, batch_size: int = 4, *, log: Path | None = None, fingerprint: str = "f" * 64, name: str = "fake"
    ) -> None:
        self.identity = Identity(name, fingerprint, "crop 8x8", DIMENSION, "float32")
        self.batch_size = batch_size
        self.log = log
        self.encoded: list[str] = []
        self.texts: list[str] = []

    def encode_files(
        self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> Generator[EncodedBatch, None, None]:
        for first in range(0, len(paths), self.batch_size):
            yield self._batch(range(first, min(first + self.batch_size, len(paths))), paths, captions)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return np.stack([embedding_of(text.encode("utf-8", "surrogatepass")) for text in texts])

    def _batch(
        self, numbers: range, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> EncodedBatch:
        batch = EncodedBatch([], np.zeros((0, DIMENSION), np.float32), [], [], [])
        embeddings = []
        for number in numbers:
            try:
                with open(paths[number], "rb") as file:
                    content = file.read()
            except NotADirectoryError:
                content = read_member(paths[number])
            if content.startswith(b"broken"):
                batch.failures.append((number, f"{paths[number]}: not an image"))
                continue
            batch.numbers.append(number)
            batch.content_hashes.append(content_hash(content))
            batch.widths.append(len(content))
            batch.heights.append(1 + content[0])
            embeddings.append(embedding_of(joined(content, captions[number] if captions else ())))
        if embeddings:
            batch.embeddings = np.stack(embeddings)
        self.encoded += [paths[number] for number in batch.numbers]
        if self.log is not None:
            names = b"".join(os.fsencode(paths[number]) + b"\0" for number in batch.numbers)
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(descriptor, names)
            os.close(descriptor)
        return batch


class Stops(FakeEncoder):
    """Dies after one batch, as a killed run does."""

    def encode_files(
        self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> Generator[EncodedBatch, None, None]:
        for number, batch in enumerate(super().encode_files(paths, captions)):
            if number:
                raise KeyboardInterrupt
            yield batch
