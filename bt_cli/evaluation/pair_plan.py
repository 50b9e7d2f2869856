"""Which image-caption pairs the matching head reads: every one, or the contrastive stage's candidates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bt_cli.metrics.recall import ScoreRows

BLOCK = 256


@dataclass(frozen=True)
class PairPlan:
    """Pairs numbered image by image, the captions of an image in ascending order.

    Attributes:
        images: How many images there are.
        captions: How many captions there are.
        starts: (images + 1,) int64, the number of each image's first pair.
        partners: (pairs,) int32, the caption of each pair; None where every pair is planned and it follows by itself.
    """

    images: int
    captions: int
    starts: NDArray[np.int64]
    partners: NDArray[np.int32] | None = None

    @classmethod
    def exhaustive(cls, images: int, captions: int) -> PairPlan:
        """Every pair."""
        return cls(images, captions, np.arange(images + 1, dtype=np.int64) * captions)

    @classmethod
    def candidates(cls, images: int, captions: int, image_rows: ScoreRows, caption_rows: ScoreRows, k: int) -> PairPlan:
        """The k best captions of each image together with the k best images of each caption.

        Args:
            image_rows: Scores of images against all captions.
            caption_rows: Scores of captions against all images.
            k: How many candidates each way; equal scores at the edge are taken in the order of their positions.

        Memory: 24 bytes a pair while it sorts, 4 afterwards.
        """
        if k >= max(images, captions):
            return cls.exhaustive(images, captions)
        chosen = [image * captions + found for image, found in _best_of_each(image_rows, images, k)]
        chosen += [found * captions + caption for caption, found in _best_of_each(caption_rows, captions, k)]
        pairs = np.unique(np.concatenate(chosen))
        starts = np.searchsorted(pairs, np.arange(images + 1, dtype=np.int64) * captions)
        return cls(images, captions, starts.astype(np.int64), (pairs % captions).astype(np.int32))

    @property
    def is_exhaustive(self) -> bool:
        """Whether every pair is planned."""
        return self.partners is None

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def fingerprint(self) -> str:
        """A short hash of which pairs these are."""
        found = hashlib.sha256(f"{self.images} {self.captions}".encode())
        if self.partners is not None:
            found.update(self.starts.tobytes() + self.partners.tobytes())
        return found.hexdigest()[:16]

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The numbers of the pairs of images start to stop - 1: first, one past the last."""
        return int(self.starts[start]), int(self.starts[stop])

    def captions_of(self, first: int, last: int) -> NDArray[np.int64]:
        """The caption of each pair first to last - 1."""
        if self.partners is None:
            return np.arange(first, last, dtype=np.int64) % self.captions
        return self.partners[first:last].astype(np.int64)

    def images_of(self, first: int, last: int) -> NDArray[np.int64]:
        """The image of each pair first to last - 1."""
        return np.searchsorted(self.starts, np.arange(first, last, dtype=np.int64), side="right") - 1


def best_positions(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """The positions of the k highest scores, best first; equal scores in the order of their positions."""
    if k < len(scores):
        edge = np.partition(scores, -k)[-k]
        above = np.flatnonzero(scores > edge)
        found = np.concatenate([above, np.flatnonzero(scores == edge)[: k - len(above)]])
        found.sort()
    else:
        found = np.arange(len(scores))
    return found[np.argsort(-scores[found], kind="stable")].astype(np.int64)


def _best_of_each(rows: ScoreRows, queries: int, k: int) -> list[tuple[int, NDArray[np.int64]]]:
    found = []
    for start in range(0, queries, BLOCK):
        scores = rows(start, min(start + BLOCK, queries))
        found += [(start + row, best_positions(scores[row], k)) for row in range(len(scores))]
    return found
