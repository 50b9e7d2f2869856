"""The second stage: the ITM head reads each candidate together with the query and puts them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.search.candidates import Candidate, Hit
from bt_cli.search.query import Query, Term

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[int, int], None]


class PairReader(Protocol):
    """What reranking needs of a model.

    `itm` gives the two ITM logits of each pair, `(p, 2) float32`, for pairs `(p, 2)` of an image's and a text's row, or
    of every image with every text, `(n, m, 2)`. An image that can't be read is told to `on_error` and gets NaN.
    """

    def itm(
        self,
        images: Sequence[str],
        texts: Sequence[str],
        pairs: np.ndarray | None = None,
        *,
        progress: Progress | None = None,
        on_error: Callable[[int, UnreadableImage], None] | None = None,
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Reranked:
    """Hits in the ITM head's order, and what could not be read, each with its reason."""

    hits: list[Hit]
    skipped: list[str]


def rerank_images(
    reranker: PairReader,
    candidates: Sequence[Candidate],
    terms: Sequence[Term],
    *,
    strict: bool = False,
    combine: str = "itm",
    progress: Progress | None = None,
) -> Reranked:
    """Order images by how well they match a text.

    With several weighted texts the order is by the weighted mean of their match logits (weights taken away count
    against an image); `itm_logit` and `itm_prob` are those of the first text.

    Args:
        reranker: The model.
        candidates: The images; ties keep the order of ids, then the order given.
        terms: The query's texts, the main one first.
        combine: "itm": by the match logit; "itm+itc": with the candidate's cosine added; "itc": by the cosine.
        strict: Raise on the first image that can't be read, instead of leaving it out.
        progress: Called with pairs done and pairs in all.

    Raises:
        UnreadableImage: With `strict`, an image; without, every image.
    """
    if not candidates:
        return Reranked([], [])
    images = [candidate.path or "" for candidate in candidates]
    failures: dict[int, str] = {}

    def note(place: int, error: UnreadableImage) -> None:
        failures[place] = str(error)

    logits = reranker.itm(
        images,
        [term.content for term in terms],
        progress=progress,
        on_error=None if strict else note,
    )
    if len(failures) == len(candidates):
        raise none_can_be_read(failures)
    weights = [term.weight for term in terms]
    read = [place for place in range(len(candidates)) if place not in failures]
    hits = order_by_match([candidates[place] for place in read], logits[read], weights, combine)
    return Reranked(hits, [failures[place] for place in sorted(failures)])


def rerank_captions(
    reranker: PairReader,
    candidates: Sequence[Candidate],
    image: str,
    *,
    combine: str = "itm",
    progress: Progress | None = None,
) -> Reranked:
    """Order captions by how well they match an image.

    Raises:
        UnreadableImage: The image can't be read.
    """
    if not candidates:
        return Reranked([], [])
    logits = reranker.itm([image], [candidate.caption or "" for candidate in candidates], progress=progress)
    return Reranked(order_by_match(candidates, logits[0][:, None, :], [1.0], combine), [])


def reranked_texts(query: Query, *, to_captions: bool) -> tuple[Term, ...]:
    """The texts of a query that the ITM head can read with an image.

    Raises:
        Misuse: The ITM head reads an image with a text, and the query lacks the one that the answers are not.
    """
    if to_captions:
        if len(query.images) != 1 or query.images[0].weight < 0:
            raise Misuse("reranking captions reads them with one image: give --image FILE, once")
        return ()
    if not query.texts:
        raise Misuse("reranking reads each image with a text: give a query text beside --image")
    if all(term.weight < 0 for term in query.texts):
        raise Misuse("reranking needs a text to look for, not only --subtract")
    return query.texts


def order_by_match(
    candidates: Sequence[Candidate], logits: np.ndarray, weights: Sequence[float], combine: str = "itm"
) -> list[Hit]:
    """Hits from logits `(n, m, 2)` of n candidates and m weighted texts, best first, ties by id and then as given.

    A score is the weighted match logit; by `combine` the candidate's cosine is added ("itm+itc") or stands alone
    ("itc"), where a search found all of them.
    """
    import numpy as np

    weight = np.asarray(weights, dtype=np.float64)
    match = logits[:, :, 1].astype(np.float64)
    score = match @ weight / np.abs(weight).sum()
    cosines = [candidate.itc for candidate in candidates if candidate.itc is not None]
    if combine != "itm" and len(cosines) == len(candidates):
        score = np.asarray(cosines, dtype=np.float64) + (0.0 if combine == "itc" else score)
    if not np.isfinite(score).all():
        broken = candidates[int(np.flatnonzero(~np.isfinite(score))[0])]
        raise BtError(
            f"the match score of {broken.path or broken.caption} is no number; --dtype float32 may help, "
            "else the checkpoint is broken"
        )
    probability = match_probability(logits[:, 0])
    id_or_last = [(candidate.id is None, candidate.id or 0) for candidate in candidates]
    order = sorted(range(len(candidates)), key=lambda place: (-score[place], id_or_last[place], place))
    return [
        Hit(
            rank,
            candidates[place].id,
            candidates[place].path,
            float(score[place]),
            candidates[place].itc,
            float(match[place, 0]),
            float(probability[place]),
            candidates[place].caption,
        )
        for rank, place in enumerate(order, 1)
    ]


def none_can_be_read(failures: dict[int, str]) -> UnreadableImage:
    """The error for images of which every one failed; `failures` has each one's reason by its place."""
    only = "the image can't be read" if len(failures) == 1 else f"none of the {len(failures)} images can be read; first"
    error = UnreadableImage(f"{only}: {failures[min(failures)]}")
    error.reasons = [failures[place] for place in sorted(failures)]
    return error


def match_probability(logits: np.ndarray) -> np.ndarray:
    """Softmax of ITM logits `(..., 2)`, column 1: `(...) float64` in [0, 1], NaN where the logits are."""
    import numpy as np

    no_match, match = logits[..., 0].astype(np.float64), logits[..., 1].astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, no_match - match))
