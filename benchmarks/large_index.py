"""Large indexes: what the automatic choice finds of the exact answers, how fast, and in how much memory.

    python -m benchmarks.large_index [--rows 1000000] [--dimension 512] [--clusters 2000] [--factory FACTORY]

Vectors lie around cluster centres, as embeddings of pictures do, and are kept in float16. Queries are fresh: half lie
in a cluster, half between two, as texts do. Each step runs in a process of its own, whose peak memory is printed;
400,000 rows get a graph, 1,000,000 lists.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base_checkpoint import cache_folder
from bt_cli.embeddings.faiss_index import lists_of
from bt_cli.embeddings.index_choice import choose_index
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.store.approximate_index import TRAINING_ROWS, ApproximateIndex, build_approximate
from bt_cli.store.manifest import Piece

ROWS_AT_A_TIME, SPREAD, NEIGHBOURS, SEED = 1 << 14, 0.7, 10, 7


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_index", description="Measure an approximate index."
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=2_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--factory", help="in place of the automatic choice")
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        folder = Path(name)
        apart(write_vectors, folder, asked.rows, asked.dimension, asked.clusters)
        exact, _ = apart(exact_answers, folder, asked.clusters, asked.queries)
        built, build_peak = apart(build, folder, asked.rows, asked.dimension, asked.factory)
        if built is None:
            print(f"{asked.rows:,} x {asked.dimension}: searched exactly, {exact['milliseconds']:.1f} ms a query")
            return
        by_hand, _ = apart(build_by_hand, folder, built["entry"].kind)
        found, search_peak = apart(search, folder, built["entry"], asked.clusters, asked.queries)
        hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found["rows"], exact["rows"], strict=True)]
        print(
            f"{asked.rows:,} x {asked.dimension} in {asked.clusters:,} clusters: {built['entry'].kind} "
            f"({built['entry'].reason}), tuned to {built['entry'].search}\n"
            f"recall@{NEIGHBOURS} {np.mean(hits) / NEIGHBOURS:.4f} on {asked.queries} fresh queries "
            f"(worst query {min(hits)} of {NEIGHBOURS})\n"
            f"built in {built['seconds']:.1f} s with a peak of {build_peak:.2f} GiB; file {built['gib']:.2f} GiB; "
            f"by hand, untuned, in {by_hand:.1f} s ({built['seconds'] / by_hand:.2f} of it)\n"
            f"opened in {found['open']:.1f} ms; {found['milliseconds']:.1f} ms a query (exact: "
            f"{exact['milliseconds']:.1f}); peak of the searching process {search_peak:.2f} GiB"
        )


def apart(step: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a step returns in a process of its own, and the peak memory of that process in GiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, arguments))


def _measured(step: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    return step(*arguments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write_vectors(folder: Path, rows: int, dimension: int, clusters: int) -> None:
    """The vectors, in random order, into a flat file."""
    generator = np.random.default_rng(SEED)
    middles = centres(clusters, dimension)
    with VectorFileWriter(folder / "flat", rows, dimension, "float16") as file:
        for first in range(0, rows, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, rows - first)
            vectors = around(middles[generator.integers(0, clusters, count)], generator)
            file.write(np.arange(first, first + count), vectors)


def exact_answers(folder: Path, clusters: int, queries: int) -> dict[str, Any]:
    """The true neighbours, (q, 10), by the exact search."""
    vectors = VectorFile(folder / "flat")
    asked = fresh_queries(clusters, vectors.dimension, queries)
    begun = time.perf_counter()
    rows = np.concatenate([vectors.search(query[None], NEIGHBOURS)[1] for query in asked])
    return {"rows": rows, "milliseconds": 1000 * (time.perf_counter() - begun) / queries}


def build(folder: Path, rows: int, dimension: int, factory: str | None) -> dict[str, Any] | None:
    """Make the chosen index; None where the choice is the exact search."""
    choice = choose_index(rows, dimension, "float16", factory=factory)
    if choice.factory is None:
        return None
    begun = time.perf_counter()
    choice, tuning = build_approximate(folder / "flat", folder / "index", choice)
    seconds = time.perf_counter() - begun
    entry = Piece(rows, "", "index", "", kind=choice.factory or "", reason=choice.reason, search=tuning)
    return {"entry": entry, "seconds": seconds, "gib": (folder / "index").stat().st_size / 2**30}


def build_by_hand(folder: Path, kind: str) -> float:
    """Seconds that FAISS's own calls take for an index of the same kind, trained on as many vectors and on the disk."""
    import faiss

    vectors = VectorFile(folder / "flat")
    begun = time.perf_counter()
    index = faiss.index_factory(vectors.dimension, kind, faiss.METRIC_INNER_PRODUCT)
    lists = lists_of(index)
    count = min(vectors.rows, max(TRAINING_ROWS * lists.nlist, 1 << 14) if lists is not None else vectors.rows)
    chosen = np.sort(np.random.default_rng(SEED).choice(vectors.rows, count, replace=False))
    index.train(vectors.rows_of(chosen))
    for first in range(0, vectors.rows, ROWS_AT_A_TIME):
        index.add(np.asarray(vectors.vectors[first : first + ROWS_AT_A_TIME], np.float32))
    faiss.write_index(index, str(folder / "by-hand"))
    with open(folder / "by-hand", "rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - begun


def search(folder: Path, entry: Piece, clusters: int, queries: int) -> dict[str, Any]:
    """Answers of the index, one query after another, as users ask."""
    import faiss  # noqa: F401  (its import is no part of opening)

    begun = time.perf_counter()
    index = ApproximateIndex(folder / "index", entry, VectorFile(folder / "flat"))
    opened = time.perf_counter()
    asked = fresh_queries(clusters, index.dimension, queries)
    start = time.perf_counter()
    rows = np.concatenate([index.search(query[None], NEIGHBOURS)[1] for query in asked])
    seconds = time.perf_counter() - start
    return {"rows": rows, "open": 1000 * (opened - begun), "milliseconds": 1000 * seconds / queries}


def centres(clusters: int, dimension: int) -> np.ndarray:
    """Cluster centres, (clusters, dimension) float32 of norm 1."""
    return _normed(np.random.default_rng(SEED + 1).normal(size=(clusters, dimension)).astype(np.float32))


def fresh_queries(clusters: int, dimension: int, count: int) -> np.ndarray:
    """Queries (count, dimension) float32 that are no stored vectors: half in a cluster, half between two."""
    generator = np.random.default_rng(SEED + 2)
    middles = centres(clusters, dimension)
    one, other = (middles[generator.integers(0, clusters, count)] for _ in range(2))
    between = np.arange(count)[:, None] % 2 == 1
    return around(np.where(between, _normed(one + other), one), generator)


def around(middles: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Points near these: noise of `SPREAD` times the length of a centre, then norm 1."""
    noise = generator.standard_normal(middles.shape, np.float32) * np.float32(SPREAD / np.sqrt(middles.shape[1]))
    return _normed(middles + noise)


def _normed(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
