"""Scores of images against captions, handed out a block of rows at a time and from either side."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bt_cli.evaluation.pair_plan import PairPlan

UNSCORED = -100.0
"""What a pair counts that the matching head did not read, as in the published protocol."""


class ContrastiveScores:
    """Cosine similarities of embeddings.

    Args:
        images: (images, d) float32, rows of norm 1.
        captions: (captions, d) float32, rows of norm 1; equal captions have equal rows.

    Products are summed in float64 and rounded once, so a score does not depend on the block or the side that it is
    asked from, and equal embeddings get equal scores.
    """

    def __init__(self, images: NDArray[np.float32], captions: NDArray[np.float32]) -> None:
        self.images, self.captions = images, captions

    def image_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Images start to stop - 1 against every caption: (stop - start, captions)."""
        return _cosines(self.images[start:stop], self.captions)

    def caption_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Captions start to stop - 1 against every image: (stop - start, images)."""
        return _cosines(self.captions[start:stop], self.images)


class MatchingScores:
    """Match logits of the planned pairs, -100 for the others.

    Args:
        plan: Which pairs were read.
        logits: (pairs,) float32, the raw match logit of each; may be memory-mapped.
        contrastive: Where given, its cosine is added to each pair that was read (BLIP's way).

    The plan is the union of both directions' candidates, which is what the elementwise maximum of the two directions'
    matrices comes to; so a pair that was read counts no less than -100 either.
    """

    def __init__(
        self, plan: PairPlan, logits: NDArray[np.float32], contrastive: ContrastiveScores | None = None
    ) -> None:
        self.plan, self.logits, self.contrastive = plan, logits, contrastive

    def image_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Images start to stop - 1 against every caption: (stop - start, captions)."""
        added = self.contrastive.image_rows(start, stop) if self.contrastive else None
        first, last = self.plan.span(start, stop)
        if self.plan.is_exhaustive:
            return _floored(self.logits[first:last].reshape(stop - start, self.plan.captions), added)
        rows = self.plan.images_of(first, last) - start
        shape = (stop - start, self.plan.captions)
        return _spread(shape, rows, self.plan.captions_of(first, last), self.logits[first:last], added)

    def caption_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Captions start to stop - 1 against every image: (stop - start, images)."""
        added = self.contrastive.caption_rows(start, stop) if self.contrastive else None
        if self.plan.is_exhaustive:
            matrix = self.logits.reshape(self.plan.images, self.plan.captions)
            return _floored(matrix[:, start:stop].T, added)
        order, starts = self._by_caption
        pairs = order[starts[start] : starts[stop]]
        rows = np.repeat(np.arange(stop - start), np.diff(starts[start : stop + 1]))
        images = np.searchsorted(self.plan.starts, pairs, side="right") - 1
        return _spread((stop - start, self.plan.images), rows, images, self.logits[pairs], added)

    @cached_property
    def _by_caption(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs in the order of their captions, and where each caption's begin."""
        captions = self.plan.captions_of(0, len(self.plan))
        order = np.argsort(captions, kind="stable")
        counts = np.bincount(captions, minlength=self.plan.captions)
        return order, np.concatenate([[0], np.cumsum(counts)])


def _cosines(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
    return (queries.astype(np.float64) @ gallery.T.astype(np.float64)).astype(np.float32)


def _spread(
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    logits: NDArray[np.float32],
    added: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """A dense block of scores: the given logits in their places, plus what is added there, -100 elsewhere."""
    scores = np.full(shape, UNSCORED, np.float32)
    scores[rows, columns] = _floored(logits, None if added is None else added[rows, columns])
    return scores


def _floored(logits: NDArray[np.float32], added: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.maximum(logits if added is None else logits + added, np.float32(UNSCORED))
