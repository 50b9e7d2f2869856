"""What an update of an index costs: seconds, bytes written and peak memory, with a stand-in for files and network.

    python -m benchmarks.index_updates [--rows 100000] [--dimension 512]

Files are named, never made: the walk is the file system's own cost. Each step runs in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base_checkpoint import cache_folder
from bt_cli.datasets.image_folder import ImageFile
from bt_cli.indexing import build, listing, plan
from bt_cli.indexing.encoder import EncodedBatch
from bt_cli.store.identity import Identity

BATCH = 1000
Files = list[tuple[str, int]]
"""Name and number of each file; the number is its content."""


class StandIn:
    """An embedding is drawn by the file's number."""

    def __init__(self, files: Files, dimension: int) -> None:
        self.identity = Identity("stand-in", "f" * 64, "none", dimension, "float32")
        self.number = dict(files)
        self.seconds = 0.0

    def encode_files(self, paths: Sequence[str]) -> Generator[EncodedBatch, None, None]:
        for first in range(0, len(paths), BATCH):
            begun = time.perf_counter()
            numbers = list(range(first, min(first + BATCH, len(paths))))
            content = [self.number[paths[number]] for number in numbers]
            vectors = np.random.default_rng(content[0]).standard_normal((len(numbers), self.identity.dimension))
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            hashes = [f"{number:064x}" for number in content]
            self.seconds += time.perf_counter() - begun
            yield EncodedBatch(numbers, vectors, hashes, [64] * len(numbers), [64] * len(numbers))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


def update(folder: Path, files: Files, dimension: int) -> tuple[float, float, float, str]:
    """Seconds beyond encoding, MB written, peak MB, what changed."""
    number_of = dict(files)

    def found(roots: Any, **options: Any) -> Iterator[ImageFile]:
        return (ImageFile(name, 10**6 + number, 10**18 + number) for name, number in files)

    build.find_images = listing.find_images = found  # type: ignore[assignment]
    plan.content_hash = lambda path: f"{number_of[path]:064x}"  # type: ignore[assignment]
    encoder = StandIn(files, dimension)
    before = _written()
    begun = time.perf_counter()
    summary = build.build_index(folder / ".bt", [folder], encoder)
    seconds = time.perf_counter() - begun - encoder.seconds
    said = f"+{summary.added} -{summary.removed} ~{summary.updated}, {summary.encoded} encoded"
    return seconds, (_written() - before) / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, said


def _written() -> int:
    with open("/proc/self/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar:"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_updates", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
        folder = Path(name)
        files = [(os.fspath(folder / f"{n // 1000:05d}/{n:08d}.jpg"), n) for n in range(asked.rows)]
        fresh = iter((os.fspath(folder / f"{n // 1000:05d}/{n:08d}.jpg"), n) for n in range(asked.rows, 2 * asked.rows))
        steps = [("made", list(files)), ("nothing", list(files))]
        for count in (10, 1000):
            files = [*files, *(next(fresh) for _ in range(count))]
            steps.append((f"+{count:,}", list(files)))
        files = [file for place, file in enumerate(files) if place % (asked.rows // 1000)][: len(files)]
        steps.append(("one in each thousandth gone", list(files)))
        moved = min(10_000, asked.rows // 4)
        files = [(n.replace(".jpg", "-moved.jpg"), c) if i < moved else (n, c) for i, (n, c) in enumerate(files)]
        steps.append((f"{moved:,} moved", list(files)))
        for what, state in steps:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, written, peak, said = pool.apply(update, (folder, state, asked.dimension))
            print(
                f"{asked.rows:,} rows, {what}: {seconds:.2f} s, {written:.1f} MiB written, peak {peak:.0f} MB ({said})"
            )


if __name__ == "__main__":
    main()
