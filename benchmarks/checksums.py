"""What the checksums of an index cost a search: the first one after opening, which proves what it reads, and later
ones, with and without; exact, and through lists.

    python -m benchmarks.checksums [--rows 200000] [--dimension 512]

Milliseconds of the processor, the least of ten, alternating, the file in the page cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bt_cli.embeddings.index_choice import list_choice
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.files.block_sums import BlockSums
from bt_cli.store.approximate_index import ApproximateIndex, build_approximate
from bt_cli.store.manifest import Piece

AT_A_TIME, TRIES, CENTRES = 1 << 14, 10, 500
Opened = VectorFile | ApproximateIndex


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checksums", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BT_BENCH_CACHE")) as name:
        flat = Path(name) / "flat"
        write(flat, asked.rows, asked.dimension)
        sums = sums_of(flat)
        query = VectorFile(flat).rows_of(np.array([asked.rows // 2]))
        compare("exact", query, lambda proved: VectorFile(flat, sums if proved else None))
        lists = Path(name) / "lists"
        choice, search = build_approximate(flat, lists, list_choice(asked.rows, asked.dimension, "float16"))
        entry, of_lists = Piece(asked.rows, "", "", "", kind=choice.factory or "", search=search), sums_of(lists)

        def opened(proved: bool) -> ApproximateIndex:
            vectors = VectorFile(flat, sums if proved else None)
            return ApproximateIndex(lists, entry, vectors, of_lists if proved else None)

        compare(f"{choice.factory}, {search['nprobe']} probed", query, opened)


def compare(what: str, query: np.ndarray, opened: Callable[[bool], Opened]) -> None:
    """Time opening with the first search, and the second search, of both kinds in turn."""
    times: dict[tuple[bool, int], list[float]] = {}
    for _ in range(TRIES):
        for proved in (True, False):
            begun = time.process_time()
            index = opened(proved)
            for number in range(2):
                index.search(query, 10)
                times.setdefault((proved, number), []).append(1000 * (time.process_time() - begun))
                begun = time.process_time()
    for number, when in enumerate(("opening and first search", "next search")):
        proved, plain = (min(times[kind, number]) for kind in (True, False))
        print(f"{what}, {when}: {plain:.2f} ms, {proved:.2f} with checksums, {100 * (proved - plain) / plain:+.1f} %")


def write(path: Path, rows: int, dimension: int) -> None:
    """Vectors in clusters, in float16."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((CENTRES, dimension), np.float32)
    with VectorFileWriter(path, rows, dimension, "float16") as file:
        for first in range(0, rows, AT_A_TIME):
            count = min(AT_A_TIME, rows - first)
            vectors = centres[chance.integers(0, CENTRES, count)] + chance.standard_normal(
                (count, dimension), np.float32
            )
            file.write(np.arange(first, first + count), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def sums_of(path: Path) -> BlockSums:
    """Of a whole file."""
    with open(path, "rb") as file:
        return BlockSums.of(file)


if __name__ == "__main__":
    main()
