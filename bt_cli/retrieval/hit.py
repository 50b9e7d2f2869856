"""One answer of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Hit:
    """One image or caption that was found.

    Attributes:
        rank: Place in the answer, from 1.
        id: Row in the index (of images, or of captions for a caption); None for an image that came from elsewhere.
        path: The image file; for a caption the image it belongs to, None where that is not known.
        score: What the answer is ordered by: `itc` after a search, the match logit after reranking.
        itc: Cosine of the query's and the answer's embeddings, in [-1, 1].
        itm_logit: Raw logit of "match" from the ITM head.
        itm_prob: Softmax of the two ITM logits, in [0, 1].
        caption: The caption found; None for an image.
    """

    rank: int
    id: int | None
    path: str | None
    score: float
    itc: float | None = None
    itm_logit: float | None = None
    itm_prob: float | None = None
    caption: str | None = None

    def at(self, rank: int) -> Hit:
        """The same answer at another place."""
        return replace(self, rank=rank)

    def record(self) -> dict[str, Any]:
        """The `--json` object: the contract's keys in the contract's order, `caption` only for captions."""
        record: dict[str, Any] = {"rank": self.rank, "id": self.id, "path": self.path}
        if self.caption is not None:
            record["caption"] = self.caption
        for name in ("score", "itc", "itm_logit", "itm_prob"):
            record[name] = seven_digits(getattr(self, name))
        return record


def seven_digits(value: float | None) -> float | None:
    """A float32 value without the digits that its double form makes up."""
    return None if value is None else float(f"{value:.7g}")
