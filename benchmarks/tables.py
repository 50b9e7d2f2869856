"""An index from tables: seconds, peak memory, bytes, and what it finds of the exact answers.

    python -m benchmarks.tables [--rows 1000000] [--parts 20] [--dimension 512] [--clusters 2000] [--queries 200]
                                [--factory FACTORY]

The parts are what `bt encode images` writes, with vectors around cluster centres as `benchmarks.large_index` has them.
Each step runs in a process of its own. Of its memory, what it holds itself (anonymous) is told apart from the pages of
mapped files, which the system takes back when it needs them. Queries come one after another: first with nothing of the
index in the page cache, then again.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base_checkpoint import cache_folder
from benchmarks.large_index import NEIGHBOURS, SEED, apart, around, centres, fresh_queries
from bt_cli.embeddings.embedding_table import TableWriter, image_schema, times, vector_array
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.photo_columns import arrow_columns, facts_arrays
from bt_cli.indexing.from_tables import index_tables
from bt_cli.store.index_folder import IndexFolder

ROWS_AT_A_TIME = 1 << 14


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="Measure bt index --tables.")
    for name, value in (("rows", 1_000_000), ("parts", 20), ("dimension", 512), ("clusters", 2_000), ("queries", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--factory", help="in place of the automatic choice")
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        folder = Path(name)
        apart(write_parts, folder / "tables", asked.rows, asked.parts, asked.dimension, asked.clusters)
        tables = sum(path.stat().st_size for path in (folder / "tables").iterdir())
        print(f"{asked.rows:,} x {asked.dimension} in {asked.parts} tables of {tables / 2**30:.2f} GiB", flush=True)
        for words in ("made", "again, which changes nothing,"):
            (seconds, processor, own), peak = apart(merge, folder, asked.factory)
            print(
                f"{words} in {seconds:.1f} s, {processor:.1f} of the processor; {own:.2f} GiB of its own at the peak, "
                f"{peak:.2f} with pages of files",
                flush=True,
            )
        inside = [(path.name, path.stat().st_size) for path in (folder / "index").iterdir() if not path.is_symlink()]
        print(
            f"index folder {sum(size for _, size in inside) / 2**30:.2f} GiB: "
            + ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sorted(inside) if size > 1 << 20)
        )
        forget_pages(folder / "index")
        found, _ = apart(search, folder, asked.clusters, asked.queries)
        print(
            f"{found['kind']}, {found['tuning']}: recall@{NEIGHBOURS} {found['recall']:.4f}; cold {found['cold']}, "
            f"warm {found['warm']} (median and p99 of {asked.queries} queries); {found['own']:.2f} GiB of its own at "
            f"the peak, {found['peak']:.2f} with pages of files"
        )


@contextmanager
def own_memory() -> Iterator[list[int]]:
    """A list whose only number is the most memory that this process has had for itself (anonymous), bytes."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
                now = next((int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:")), 0)
            peak[0] = max(peak[0], now)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def forget_pages(folder: Path) -> None:
    """Have the system drop what it keeps of these files in memory."""
    for path in folder.iterdir():
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def write_parts(folder: Path, rows: int, parts: int, dimension: int, clusters: int) -> None:
    """The tables, of equal length."""
    folder.mkdir()
    generator = np.random.default_rng(SEED)
    middles = centres(clusters, dimension)
    identity = Identity("generated", "0" * 64, "none", dimension, "float32")
    schema = image_schema(identity, "float16", str(folder.parent))
    for part in range(parts):
        count = rows // parts + (part < rows % parts)
        with open(folder / f"{part:06d}.tar.parquet", "wb") as file, TableWriter(file, schema) as table:
            for first in range(0, count, ROWS_AT_A_TIME):
                here = min(ROWS_AT_A_TIME, count - first)
                vectors = around(middles[generator.integers(0, clusters, here)], generator)
                table.write(_columns(part, first, vectors, generator))


def _columns(part: int, first: int, vectors: np.ndarray, generator: np.random.Generator) -> dict[str, Any]:
    numbers = range(first, first + len(vectors))
    return {
        "path": [f"shards/{part:06d}.tar/{number:09d}.jpg" for number in numbers],
        "path_bytes": [None] * len(vectors),
        "size": np.full(len(vectors), 40_000, np.int64),
        "mtime": times(np.full(len(vectors), 1, np.int64)),
        "content_hash": [generator.bytes(32).hex() for _ in numbers],
        "width": np.full(len(vectors), 384, np.int32),
        "height": np.full(len(vectors), 384, np.int32),
        **arrow_columns(facts_arrays((), len(vectors))),
        "embedding": vector_array(vectors, "float16"),
    }


def merge(folder: Path, factory: str | None) -> tuple[float, float, float]:
    """Seconds that the index takes, by the clock and of the processor, and memory of its own, GiB."""
    with own_memory() as peak:
        begun, processor = time.perf_counter(), time.process_time()
        index_tables(folder / "index", [folder / "tables"], factory=factory)
        return time.perf_counter() - begun, time.process_time() - processor, peak[0] / 2**30


def search(folder: Path, clusters: int, queries: int) -> dict[str, Any]:
    """Recall of the index, the times of single queries, and what memory these took."""
    import faiss  # noqa: F401  (its import is no part of a query)

    with IndexFolder.open(folder / "index") as index, own_memory() as own:
        asked = fresh_queries(clusters, index.dimension, queries)
        passes = []
        found: list[np.ndarray] = []
        for _ in range(2):
            seconds, found = [], []
            for query in asked:
                begun = time.perf_counter()
                found.append(index.search(query[None], NEIGHBOURS)[1][0])
                seconds.append(time.perf_counter() - begun)
            passes.append(f"{1000 * np.median(seconds):.1f} and {1000 * np.quantile(seconds, 0.99):.1f} ms")
        memory = {"own": own[0] / 2**30, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
        flat = index.pieces[0].flat
        assert flat is not None
        exact = flat.search(asked, NEIGHBOURS)[1]
        hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, exact, strict=True)]
        entry = index.manifest.pieces[0]
        return {
            "kind": entry.kind,
            "tuning": {
                name: entry.search.get(name) for name in ("nprobe", "efSearch", "recall") if name in entry.search
            },
            "recall": float(np.mean(hits)) / NEIGHBOURS,
            "cold": passes[0],
            "warm": passes[1],
            **memory,
        }


if __name__ == "__main__":
    main()
