"""What an update of an index costs: seconds, bytes written and peak memory, over real files, with a stand-in for the
network; beside it the least that it can cost, asking the file system for every file.

    python -m benchmarks.index_updates [--rows 100000] [--dimension 512]

Each step runs in a process of its own. Seconds are beyond encoding; of the processor's and of the clock.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bt_cli.datasets.image_folder import content_hash
from bt_cli.embeddings.identity import Identity
from bt_cli.indexing.build import build_index
from bt_cli.indexing.encoder import EncodedBatch

BATCH = 1000
IN_A_FOLDER = 1000
SIZES = 4096
"""File sizes, so that the size of a new file is always that of some row, and its content is hashed: the worst case."""
CENTRES = 2000
SPREAD = 0.8
"""Embeddings lie in clusters, as those of photographs do."""


class StandIn:
    """An embedding is drawn by what the file holds, its number."""

    def __init__(self, dimension: int) -> None:
        self.identity = Identity("stand-in", "f" * 64, "none", dimension, "float32")
        self.centres = np.random.default_rng(0).standard_normal((CENTRES, dimension), np.float32)
        self.seconds = self.cpu_seconds = 0.0

    def encode_files(self, paths: Sequence[str]) -> Generator[EncodedBatch, None, None]:
        for first in range(0, len(paths), BATCH):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            numbers = list(range(first, min(first + BATCH, len(paths))))
            names = [paths[number] for number in numbers]
            content = [_content(name) for name in names]
            chance = np.random.default_rng(content[0])
            vectors = chance.standard_normal((len(numbers), self.identity.dimension), np.float32)
            vectors = SPREAD * vectors + self.centres[np.array(content) * 2654435761 % CENTRES]
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            hashes = [content_hash(name) for name in names]
            self.seconds += time.perf_counter() - begun
            self.cpu_seconds += time.process_time() - cpu_begun
            yield EncodedBatch(numbers, vectors, hashes, [64] * len(numbers), [64] * len(numbers))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


def make(folder: Path, number: int) -> None:
    """A file that no other equals, some KB long and one block on the disk."""
    path = folder / f"{number // IN_A_FOLDER:05d}" / f"{number:08d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    os.write(descriptor, b"%08d" % number)
    os.ftruncate(descriptor, 1024 + number % SIZES)
    os.close(descriptor)


def _content(path: str) -> int:
    with open(path, "rb", buffering=0) as file:
        return int(file.read(8))


class Cost(NamedTuple):
    """Of one step."""

    seconds: float
    cpu_seconds: float
    written: float
    """MiB."""
    peak: float
    """MB of the whole process; `before` of them were there with the program loaded."""
    before: float
    said: str

    def __str__(self) -> str:
        times = f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} s of processor)"
        return (
            f"{times}, {self.written:.1f} MiB written, peak {self.peak:.0f} MB ({self.before:.0f} before), {self.said}"
        )


def update(folder: Path, dimension: int) -> Cost:
    """Bring the index of a folder up to date."""
    encoder = StandIn(dimension)
    written, before = _written(), _peak()
    begun, cpu_begun = time.perf_counter(), _processor_seconds()
    summary = build_index(folder / ".bt", [folder / "photos"], encoder)
    cpu_seconds = _processor_seconds() - cpu_begun - encoder.cpu_seconds
    seconds = time.perf_counter() - begun - encoder.seconds
    said = f"+{summary.added} -{summary.removed} ~{summary.updated}, {summary.encoded} encoded"
    return Cost(seconds, cpu_seconds, (_written() - written) / 2**20, _peak(), before, said)


def floor(folder: Path) -> Cost:
    """Ask the file system for the names, sizes and times of all files, and do nothing with them."""
    before = _peak()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    size = files = 0
    with os.scandir(folder / "photos") as folders:
        for below in folders:
            with os.scandir(below.path) as entries:
                for entry in entries:
                    size += entry.stat().st_size
                    files += 1
    cpu_seconds, seconds = time.process_time() - cpu_begun, time.perf_counter() - begun
    return Cost(seconds, cpu_seconds, 0.0, _peak(), before, f"{files} files asked for")


def _written() -> int:
    """Bytes for the disk; what goes through pipes is none."""
    with open("/proc/self/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("write_bytes:"))


def _processor_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + others.ru_utime + others.ru_stime


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_updates", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BT_BENCH_CACHE")) as name:
        measure(Path(name), asked.rows, asked.dimension)


def measure(folder: Path, rows: int, dimension: int) -> None:
    """Take the steps one after another."""
    photos = folder / "photos"

    def step(what: str, work: object, *arguments: object) -> None:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(f"{rows:,} rows, {what}: {pool.apply(work, (folder, *arguments))}", flush=True)  # type: ignore[arg-type]

    for number in range(rows):
        make(photos, number)
    step("the floor", floor)
    step("made", update, dimension)
    step("nothing", update, dimension)
    step("the floor", floor)
    for first, count in ((rows, 10), (rows + 10, 1000)):
        for number in range(first, first + count):
            make(photos, number)
        step(f"+{count:,}", update, dimension)
    gone = range(0, rows, rows // 1000)
    for number in gone:
        (photos / f"{number // IN_A_FOLDER:05d}" / f"{number:08d}.jpg").unlink()
    step(f"-{len(gone):,}", update, dimension)
    moved = 0
    for path in sorted(photos.rglob("*.jpg"))[: min(10_000, rows // 4)]:
        path.rename(path.with_name(f"{path.stem}-moved.jpg"))
        moved += 1
    step(f"{moved:,} moved", update, dimension)
    step("nothing", update, dimension)


if __name__ == "__main__":
    main()
