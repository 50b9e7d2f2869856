"""How far an approximate index has to look: measured when it is built, on a sample of its own vectors.

The sample has queries, half stored vectors and half sums of two of them, which lie between clusters as texts do, and
their exact neighbours among a bounded number of rows. How many lists a query probes (IVF) or how many nodes it visits
(HNSW) is the smallest number, of powers of two, with which `WANTED_RECALL` of the neighbours are found.

Lists need no search for that: a neighbour is found where its list is probed, which the middles of the lists alone
say. Where the lists hold codes, the sample's rows are searched once more, as the codes may rank a neighbour too low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bt_cli.embeddings.faiss_index import GRAPH_EFFORT, graph_of, holds_vectors, lists_of, searched, turned
from bt_cli.embeddings.vector_file import VectorFile

WANTED_RECALL = 0.97
SAMPLE_QUERIES = 400
SAMPLE_ROWS = 1 << 16
"""Rows among which sample queries have their exact neighbours: the work does not grow with the index."""
NEIGHBOURS = 10
RESCORED = 1024
"""Candidates of a coded index that are ranked by the vectors themselves, at least: the same for every k up to a
quarter of it, so that a short answer begins a long one."""
FIRST_PROBES = 8
WORTH_MORE_PROBES = 0.002
"""Recall that twice as many lists have to bring: where they don't, the codes are what misses, not the lists."""
SEED = 20220617


@dataclass(frozen=True)
class Sample:
    """Queries and what they should find.

    Attributes:
        queries: (q, d) float32, first those that are stored vectors, then those between two.
        rows: (s,) int64, ascending: the rows that were looked at; None for all.
        neighbours: (q, 10) int64: the nearest of these rows.
        total: Rows of the index.
    """

    queries: np.ndarray
    rows: np.ndarray | None
    neighbours: np.ndarray
    total: int

    @classmethod
    def of(cls, vectors: VectorFile) -> Sample:
        """Drawn from at most `SAMPLE_ROWS` rows, evenly spread.

        The ten nearest of a sample of one row in sixteen are about the 160 nearest of all: what finds them finds the
        nearest ten the more surely.
        """
        generator = np.random.default_rng(SEED)
        count = min(SAMPLE_QUERIES, vectors.rows)
        own = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
        other = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
        between = own[::2] + generator.permutation(other)[: len(own[::2])]
        queries = np.concatenate([own[1::2], between])
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
        if vectors.rows <= SAMPLE_ROWS:
            return cls(queries, None, vectors.search(queries, NEIGHBOURS)[1], vectors.rows)
        rows = np.linspace(0, vectors.rows - 1, SAMPLE_ROWS).astype(np.int64)
        products = queries @ vectors.rows_of(rows).T
        nearest = np.argpartition(-products, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return cls(queries, rows, rows[nearest], vectors.rows)

    def recall(self, found: np.ndarray) -> float:
        """The share of the neighbours that are among `found` (q, any); the worse half of the sample counts."""
        pairs = zip(found, self.neighbours, strict=True)
        return self.share(np.array([len(np.intersect1d(mine, theirs)) for mine, theirs in pairs]))

    def share(self, hits: np.ndarray) -> float:
        """Of (q,) numbers of neighbours that were found, as `recall`."""
        own = len(hits) // 2
        return float(min(hits[:own].mean(), hits[own:].mean()) / self.neighbours.shape[1]) if own else 1.0


def tuned(index: Any, kind: str, sample: Sample, vectors: VectorFile) -> dict[str, Any]:
    """The least effort that reaches the recall, or the most that is of use where none does: `nprobe` or `efSearch`,
    with `recall` and `sample` (queries).

    Args:
        index: As FAISS has it, with all vectors.
        kind: Its factory string.
        sample: Of the vectors.
        vectors: Flat.
    """
    lists, graph = lists_of(index), graph_of(index)
    if lists is not None:
        effort, recall = _probes(index, lists, sample, vectors)
        if not holds_vectors(kind):
            effort, recall = _probes_with_codes(index, lists.nlist, sample, effort)
        found = {"nprobe": effort}
    elif graph is not None:
        effort, recall = GRAPH_EFFORT // 2, _recall(index, sample, {"efSearch": GRAPH_EFFORT // 2})
        if recall < WANTED_RECALL:
            effort, recall = GRAPH_EFFORT, _recall(index, sample, {"efSearch": GRAPH_EFFORT})
        found = {"efSearch": effort}
    else:
        found, recall = {}, _recall(index, sample, {})
    return {**found, "recall": round(recall, 4), "sample": len(sample.queries)}


def _probes(index: Any, lists: Any, sample: Sample, vectors: VectorFile) -> tuple[int, float]:
    """Lists to probe, and the share of the neighbours that lie in these."""
    rows, places = np.unique(sample.neighbours, return_inverse=True)
    list_of = lists.quantizer.search(turned(index, vectors.rows_of(rows)), 1)[1][:, 0]
    theirs = list_of[places.reshape(sample.neighbours.shape)]
    queries = turned(index, sample.queries)
    probes = min(FIRST_PROBES, lists.nlist)
    while True:
        probed = lists.quantizer.search(queries, probes)[1]
        share = sample.share((theirs[:, :, None] == probed[:, None, :]).any(axis=2).sum(axis=1))
        if share >= WANTED_RECALL or probes == lists.nlist:
            return probes, share
        probes = min(2 * probes, lists.nlist)


def _probes_with_codes(index: Any, most: int, sample: Sample, probes: int) -> tuple[int, float]:
    """Lists to probe, beginning with `probes`, and the recall as the codes rank the sample's rows."""
    recall = _recall(index, sample, {"nprobe": probes})
    while recall < WANTED_RECALL and probes < most:
        more = min(2 * probes, most)
        further = _recall(index, sample, {"nprobe": more})
        if further < recall + WORTH_MORE_PROBES:
            break
        probes, recall = more, further
    return probes, recall


def _recall(index: Any, sample: Sample, tuning: dict[str, Any]) -> float:
    """What a search finds. Lists are searched for the sample's rows alone, with as many candidates for them as a search
    has for all rows."""
    if lists_of(index) is None or sample.rows is None:
        k = NEIGHBOURS * max(1, 2 * sample.total // SAMPLE_ROWS if sample.rows is not None else 1)
        if lists_of(index) is not None:
            k = max(k, min(RESCORED, sample.total))
        return sample.recall(searched(index, sample.queries, k, tuning)[1])
    k = max(NEIGHBOURS, RESCORED * len(sample.rows) // sample.total)
    return sample.recall(searched(index, sample.queries, k, tuning, sample.rows, all_lists=False)[1])
