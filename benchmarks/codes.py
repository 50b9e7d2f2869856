"""Short codes in the lists of a large index: what each finds by itself, and after ranking its best by the vectors.

    python -m benchmarks.codes [--rows 1000000] [--dimension 512] [--lists 1024] [--probes 16] [--codes PQ64np/RaBitQ4]

Vectors and queries are those of `benchmarks.large_index`. All codes share one coarse quantizer, and are trained on the
same sample. Seconds are the processor's, of one thread.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.large_index import NEIGHBOURS, ROWS_AT_A_TIME, SEED, around, centres, fresh_queries

CODES = (
    "SQ8",
    "PQ64np",
    "PQ128np",
    "OPQ64,PQ64np",
    "OPQ128,PQ128np",
    "PQ256x4fs",
    "RaBitQ",
    "RaBitQfs",
    "RaBitQ4",
    "RaBitQfs4",
)
"""FAISS's names; what stands before a comma turns the vectors first, and `np` leaves out a training for Hamming
distances that takes minutes."""
RANKED = (0, 100, 1024)
"""Of how many candidates the vectors themselves decide; 0: the codes do."""
TRAINING = 10_240


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codes", description="Compare codes of vectors.")
    for name, value in (("rows", 1_000_000), ("dimension", 512), ("clusters", 2_000), ("queries", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--codes", help="some of them, with / between", default="/".join(CODES))
    asked = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = make_vectors(asked.rows, asked.dimension, asked.clusters)
    queries = fresh_queries(asked.clusters, asked.dimension, asked.queries)
    exact = exact_answers(vectors, queries)
    coarse: Any = faiss.IndexFlatIP(asked.dimension)
    clusters: Any = faiss.Clustering(asked.dimension, asked.lists)
    clusters.spherical = True
    clusters.train(vectors[: 40 * asked.lists].astype(np.float32), coarse)
    print(f"{asked.rows:,} x {asked.dimension}, {asked.lists:,} lists, {asked.probes} probed")
    print(
        "code, bytes, s of training, us a vector, recall@10 by codes and of 100 and 1,024 ranked, ms a query for each"
    )
    for code in asked.codes.split("/"):
        measure(code, coarse, vectors, queries, exact, asked.lists, asked.probes)


def make_vectors(rows: int, dimension: int, clusters: int) -> np.ndarray:
    """The vectors, in random order, float16."""
    generator = np.random.default_rng(SEED)
    middles = centres(clusters, dimension)
    vectors = np.empty((rows, dimension), np.float16)
    for first in range(0, rows, ROWS_AT_A_TIME):
        block = vectors[first : first + ROWS_AT_A_TIME]
        block[:] = around(middles[generator.integers(0, clusters, len(block))], generator)
    return vectors


def exact_answers(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(q, 10): the true neighbours."""
    scores = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
    found = np.zeros((len(queries), NEIGHBOURS), np.int64)
    for first in range(0, len(vectors), ROWS_AT_A_TIME):
        block = queries @ vectors[first : first + ROWS_AT_A_TIME].astype(np.float32).T
        scores = np.concatenate([scores, block], 1)
        found = np.concatenate([found, np.broadcast_to(np.arange(first, first + block.shape[1]), block.shape)], 1)
        best = np.argpartition(-scores, NEIGHBOURS - 1, 1)[:, :NEIGHBOURS]
        scores, found = np.take_along_axis(scores, best, 1), np.take_along_axis(found, best, 1)
    return found


def measure(
    code: str, coarse: Any, vectors: np.ndarray, queries: np.ndarray, exact: np.ndarray, lists: int, probes: int
) -> None:
    """Make lists of such codes, and say what they cost and find."""
    import faiss

    turned, _, kept = code.rpartition(",")
    dimension = vectors.shape[1]
    index: Any = faiss.index_factory(dimension, f"IVF{lists},{kept}", faiss.METRIC_INNER_PRODUCT)
    begun = time.process_time()
    sample = vectors[:TRAINING].astype(np.float32)
    turn: Any = None
    if turned:
        turn = faiss.OPQMatrix(dimension, int(turned.removeprefix("OPQ")))
        turn.niter = 10
        turn.train(sample)
    apply = turn.apply if turned else lambda some: some
    index.quantizer = quantizer = faiss.IndexFlatIP(dimension)
    quantizer.add(apply(coarse.reconstruct_n(0, lists)))
    index.own_fields = False
    index.quantizer_trains_alone = 1
    index.train(apply(sample))
    trained = time.process_time() - begun
    begun = time.process_time()
    for first in range(0, len(vectors), ROWS_AT_A_TIME):
        index.add(apply(vectors[first : first + ROWS_AT_A_TIME].astype(np.float32)))
    added = time.process_time() - begun
    recalls, times = [], []
    for ranked in RANKED:
        begun = time.process_time()
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        found = np.stack([one_answer(index, apply, vectors, query, ranked, parameters) for query in queries])
        times.append(1000 * (time.process_time() - begun) / len(queries))
        hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, exact, strict=True)]
        recalls.append(float(np.mean(hits)) / NEIGHBOURS)
    figures = " ".join(f"{number:.3f}" for number in recalls), " ".join(f"{number:.1f}" for number in times)
    each = 1e6 * added / len(vectors)
    print(f"{code:13} {index.code_size:5} {trained:7.1f} {each:6.1f}   {figures[0]}   {figures[1]}", flush=True)


def one_answer(
    index: Any, apply: Any, vectors: np.ndarray, query: np.ndarray, ranked: int, parameters: Any
) -> np.ndarray:
    """The ten that are found for one query; of `ranked` candidates the vectors decide."""
    found: np.ndarray = index.search(apply(query[None]), max(ranked, NEIGHBOURS), params=parameters)[1][0]
    if ranked:
        found = found[found >= 0]
        scores = vectors[found].astype(np.float32) @ query
        found = found[np.argsort(-scores)]
    return np.pad(found[:NEIGHBOURS], (0, max(0, NEIGHBOURS - len(found))), constant_values=-1)


if __name__ == "__main__":
    main()
