"""An index from tables: seconds, peak memory, bytes, and what it finds of the exact answers.

    python -m benchmarks.tables [--rows 1000000] [--parts 20] [--dimension 512] [--clusters 2000] [--queries 200]

The parts are what `bt encode images` writes, with vectors around cluster centres as `benchmarks.large_index` has them.
Each step runs in a process of its own; queries come one after another, first right after opening, then again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base_checkpoint import cache_folder
from benchmarks.large_index import NEIGHBOURS, SEED, apart, around, centres, fresh_queries
from bt_cli.indexing.from_tables import index_tables
from bt_cli.store.embedding_table import TableWriter, image_schema, times, vector_array
from bt_cli.store.identity import Identity
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.photo_columns import arrow_columns, facts_arrays

ROWS_AT_A_TIME = 1 << 14


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="Measure bt index --tables.")
    for name, value in (("rows", 1_000_000), ("parts", 20), ("dimension", 512), ("clusters", 2_000), ("queries", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        folder = Path(name)
        apart(write_parts, folder / "tables", asked.rows, asked.parts, asked.dimension, asked.clusters)
        seconds, peak = apart(merge, folder)
        found, search_peak = apart(search, folder, asked.clusters, asked.queries)
        again, again_peak = apart(merge, folder)
        inside = [(path.name, path.stat().st_size) for path in (folder / "index").iterdir() if not path.is_symlink()]
        tables = sum(path.stat().st_size for path in (folder / "tables").iterdir())
        print(
            f"{asked.rows:,} x {asked.dimension} from {asked.parts} tables of {tables / 2**30:.2f} GiB: "
            f"{found['kind']}, {found['tuning']}\n"
            f"made in {seconds:.1f} s with a peak of {peak:.2f} GiB; the same again, which changes nothing: "
            f"{again:.1f} s, {again_peak:.2f} GiB\n"
            f"index folder {sum(size for _, size in inside) / 2**30:.2f} GiB: "
            + ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sorted(inside) if size > 1 << 20)
            + f"\nrecall@{NEIGHBOURS} {found['recall']:.4f}; first pass {found['cold']}; second pass {found['warm']} "
            f"(median and p99 of {asked.queries} queries); peak of the searching process {search_peak:.2f} GiB"
        )


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


def merge(folder: Path) -> float:
    """Seconds that the index takes."""
    begun = time.perf_counter()
    index_tables(folder / "index", [folder / "tables"])
    return time.perf_counter() - begun


def search(folder: Path, clusters: int, queries: int) -> dict[str, Any]:
    """Recall of the index, and the times of single queries."""
    with IndexFolder.open(folder / "index") as index:
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
        flat = index.pieces[0].flat
        assert flat is not None
        exact = np.concatenate([flat.search(query[None], NEIGHBOURS)[1] for query in asked])
        hits = [len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, exact, strict=True)]
        entry = index.manifest.pieces[0]
        return {
            "kind": entry.kind,
            "tuning": entry.search,
            "recall": float(np.mean(hits)) / NEIGHBOURS,
            "cold": passes[0],
            "warm": passes[1],
        }


if __name__ == "__main__":
    main()
