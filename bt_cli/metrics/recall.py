"""Recall, median rank and MRR of image-to-text (TR) and text-to-image (IR) retrieval.

A *rank* here is that of the best own item of a query, counted from 1: for an image the best of its captions, for a
caption its image. The order is by descending score; among equal scores the item that stands first in the gallery stands
first in the ranking. That order is neither kind nor unkind to the model: one that gives every pair the same score gets
what chance gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

KS = (1, 5, 10)
"""The cut-offs that the literature reports; RSUM is defined over these."""

ScoreRows = Callable[[int, int], NDArray[np.float32]]
"""`rows(start, stop)` -> the scores (stop - start, gallery) of queries start to stop - 1."""


def recall_at(ranks: ArrayLike, k: int) -> float:
    """R@k: the share of queries with an own item among the k best.

        R@k = |{q : rank(q) <= k}| / |queries|

    With several own items a query counts once, as in the retrieval literature; trec_eval calls this measure `success`,
    ranx `hit_rate`. Range 0 to 1.
    """
    return float(np.mean(_checked(ranks) <= k))


def median_rank(ranks: ArrayLike) -> float:
    """The rank that half of the queries reach, from 1; for an even number of queries the mean of the middle two."""
    return float(np.median(_checked(ranks)))


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """MRR: the mean of one over the rank of the best own item.

        MRR = (1 / |queries|) * sum over q of 1 / rank(q)

    Range above 0 to 1. Called `recip_rank` by trec_eval, `mrr` by ranx.
    """
    return float(np.mean(1.0 / _checked(ranks)))


def rsum(tr_ranks: ArrayLike, ir_ranks: ArrayLike) -> float:
    """RSUM: TR@1 + TR@5 + TR@10 + IR@1 + IR@5 + IR@10. A sum of fractions, range 0 to 6; papers print it times 100."""
    return sum(recall_at(ranks, k) for ranks in (tr_ranks, ir_ranks) for k in KS)


def metrics_of(tr_ranks: ArrayLike, ir_ranks: ArrayLike) -> dict[str, float]:
    """Every metric by its name, as fractions.

    Args:
        tr_ranks: Rank of the best own caption, one for each image that has captions.
        ir_ranks: Rank of the own image, one for each caption.

    Returns:
        `tr@1 tr@5 tr@10 ir@1 ir@5 ir@10 rsum tr_median_rank ir_median_rank tr_mrr ir_mrr`.
    """
    directions = {"tr": tr_ranks, "ir": ir_ranks}
    metrics = {f"{name}@{k}": recall_at(ranks, k) for name, ranks in directions.items() for k in KS}
    metrics["rsum"] = rsum(tr_ranks, ir_ranks)
    metrics |= {f"{name}_median_rank": median_rank(ranks) for name, ranks in directions.items()}
    metrics |= {f"{name}_mrr": mean_reciprocal_rank(ranks) for name, ranks in directions.items()}
    return metrics


def best_own_ranks(
    rows: ScoreRows, own: Mapping[int, Sequence[int] | NDArray[np.intp]], *, block: int = 256
) -> NDArray[np.int64]:
    """The rank of each query's best own item, with `block` rows of scores in memory at a time.

    Args:
        rows: The scores, asked for in ascending blocks up to the last query of `own`.
        own: Query number -> the gallery positions that belong to it. Queries that are absent or have none are no
            queries.

    Returns:
        (queries,) int64, from 1, in ascending order of the query number.

    Raises:
        ValueError: A score is NaN: such a row has no order.
    """
    queries = sorted(query for query, items in own.items() if len(items))
    ranks = np.empty(len(queries), np.int64)
    done = 0
    while done < len(queries):
        start = queries[done]
        inside = [query for query in queries[done : done + block] if query < start + block]
        scores = rows(start, inside[-1] + 1)
        for query in inside:
            ranks[done] = _best_rank(scores[query - start], np.asarray(own[query]))
            done += 1
    return ranks


def metrics_from_scores(scores: ArrayLike, owner: Sequence[int]) -> dict[str, float]:
    """All metrics of one score matrix that fits in memory.

    Args:
        scores: (images, captions), higher is better.
        owner: For each caption the row of its image.
    """
    matrix = np.asarray(scores)
    captions = own_captions(owner)
    tr_ranks = best_own_ranks(lambda start, stop: matrix[start:stop], captions)
    ir_ranks = best_own_ranks(lambda start, stop: matrix[:, start:stop].T, {c: [i] for c, i in enumerate(owner)})
    return metrics_of(tr_ranks, ir_ranks)


def own_captions(owner: Sequence[int]) -> dict[int, list[int]]:
    """Image -> its captions, from caption -> its image. Images without a caption are absent."""
    captions: dict[int, list[int]] = {}
    for caption, image in enumerate(owner):
        captions.setdefault(int(image), []).append(caption)
    return captions


def _best_rank(scores: NDArray[np.float32], own: NDArray[np.intp]) -> int:
    if np.isnan(scores).any():
        raise ValueError("a score is not a number (NaN), so there is no order")
    own_scores = scores[own]
    best = own_scores.max()
    first = own[own_scores == best].min()
    return 1 + int(np.count_nonzero(scores > best)) + int(np.count_nonzero(scores[:first] == best))


def _checked(ranks: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(ranks, dtype=np.float64)
    if array.size == 0:
        raise ValueError("no query has an own item, so there is nothing to average")
    if array.min() < 1:
        raise ValueError(f"ranks count from 1, not {array.min():g}")
    return array
