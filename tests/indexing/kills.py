"""Kills `bt index` with signal 9 at moments of updates, merges of pieces and compactions, and looks at what is left.

    PYTHONPATH=tests python -m indexing.kills [--kills 200] [--seed 5]

After each kill a reader finds the index as it was or as it is to be, and nothing else; the next run ends in the index
that an unkilled one makes, and encodes nothing that the killed one had encoded but the batch in flight.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from forked_process import in_child
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.embeddings import index_choice
from bt_cli.errors import NoIndex
from bt_cli.indexing.build import build_index
from bt_cli.store import index_writer
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

BATCH = 8
FIRST_IMAGES = 90
LARGEST = 240
"""Images beyond which as many leave as come."""
AT_A_TIME = 20
"""Kills from one line that is printed to the next."""
OPERATIONS = ("update", "merge", "compaction")

State = dict[str, bytes]
"""Path (from the folder) to content of each image."""


class Kills:
    """An index that is killed again and again.

    Args:
        home: An empty folder.
        seed: Of what changes and when it is killed.

    Attributes:
        counts: How many kills each operation took, `finished` that came too late, `old` and `new` states that were
            found, `encoded again` images, all of a batch in flight.
    """

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.folder = home / ".bt"
        self.photos = home / "photos"
        self.chance = random.Random(seed)
        self.number = self.killed = 0
        self.counts: Counter[str] = Counter()
        self.duration = dict.fromkeys(OPERATIONS, 0.2)
        self.photos.mkdir()
        self.add(FIRST_IMAGES)
        self.ended(self.run(0, {}))
        self.state = self.files()
        assert self.found() == self.state

    def kill(self, kills: int) -> None:
        """Kill so many runs, and let each one's work be done by the next."""
        done = 0
        while done < kills:
            operation = OPERATIONS[self.killed % len(OPERATIONS)]
            before = self.state
            options = self.prepare(operation)
            self.state = self.files()
            log = self.home / f"log-{self.number}"
            child = self.run(0.001, options, log)
            # Late moments more often than early ones: the step from one generation to the next is at the end.
            killed_after = self.duration[operation] * (1 - self.chance.random() ** 2)
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
            was_killed = self.ended(child)
            found = self.found()
            assert found in (before, self.state), "neither the old index nor the new one"
            self.counts["new" if found == self.state and before != self.state else "old"] += was_killed
            lasted = self.finish(options, log) + was_killed * killed_after
            self.duration[operation] += 0.5 * (lasted - self.duration[operation])
            self.counts[operation] += was_killed
            self.counts["finished"] += not was_killed
            done += was_killed
            self.killed += was_killed

    def finish(self, options: dict[str, bool], log: Path) -> float:
        """Run to the end, and compare what was encoded with what the killed run had encoded; seconds."""
        first, second = encoded_in(log), self.home / f"{log.name}-again"
        begun = time.monotonic()
        assert not self.ended(self.run(0.001, options, second))
        seconds = time.monotonic() - begun
        again = set(first) & set(encoded_in(second))
        assert again <= set(first[-BATCH:]), "a finished batch was encoded again"
        self.counts["encoded again"] += len(again)
        assert self.found() == self.state
        names = {path.name for path in self.folder.glob("*-*.*")}
        assert names == Manifest.read(self.folder).files(), "files that no manifest names"
        assert not list((self.folder / "journal").rglob("*.arrows")), "batches that are in the table stay"
        return seconds

    def prepare(self, operation: str) -> dict[str, bool]:
        """Change the images as the operation asks for; the options of the run."""
        files = sorted(self.photos.rglob("*.jpg"))
        if operation == "compaction":
            self.change(files, 2)
            return {"compact": True}
        self.change(files, 12)
        self.add(len(files) // 2 if operation == "merge" else 20)
        for file in self.chance.sample(files, max(0, len(files) - LARGEST)):
            file.unlink(missing_ok=True)
        return {}

    def change(self, files: list[Path], count: int) -> None:
        """Take away, move and write anew some images."""
        for file in self.chance.sample(files, count):
            what = self.chance.randrange(3)
            self.number += 1
            if what == 0:
                file.unlink()
            elif what == 1:
                file.rename(file.with_name(f"moved-{self.number:05d}.jpg"))
            else:
                file.write_bytes(b"other %d" % self.number)

    def add(self, count: int) -> None:
        """New images."""
        for _ in range(count):
            self.number += 1
            file = self.photos / f"{self.number % 5}/{self.number:05d}.jpg"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"image %d" % self.number)

    def files(self) -> State:
        """The images as they are on the disk."""
        return {os.path.relpath(file, self.home): file.read_bytes() for file in self.photos.rglob("*.jpg")}

    def found(self) -> State:
        """The images as a reader finds them, each known by its embedding."""
        try:
            index = IndexFolder.open(self.folder)
        except NoIndex:
            return {}
        with index:
            ids = np.arange(len(index))
            names = [index.stored_path(number) for number in ids.tolist()]
            vectors = [vector.tobytes() for vector in index.vectors_of(ids)]
        content = {stored(file): file for file in self.contents()}
        return {name: content[vector] for name, vector in zip(names, vectors, strict=True)}

    def contents(self) -> set[bytes]:
        """All contents that an image had in this life of the index."""
        kinds = (b"image %d", b"other %d")
        return {kind % number for kind in kinds for number in range(1, self.number + 1)}

    def run(self, pause: float, options: dict[str, bool], log: Path | None = None) -> int:
        """Start `bt index` in a process of its own; its number."""
        encoder = Slow(BATCH, log=log)
        encoder.pause = pause
        return in_child(lambda: build_index(self.folder, [self.photos], encoder, **options))

    @staticmethod
    def ended(child: int) -> bool:
        """Wait for it; whether it was killed. A run that fails ends this one."""
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), f"the run ended with {status}"
        return status == signal.SIGKILL


class Slow(FakeEncoder):
    """Takes its time, so that there is some to be killed in."""

    pause = 0.0

    def _batch(self, numbers, paths, captions=None):  # type: ignore[no-untyped-def]
        time.sleep(self.pause)
        return super()._batch(numbers, paths, captions)


@cache
def stored(content: bytes) -> bytes:
    """An image's embedding as a reader finds it."""
    return embedding_of(content).astype(np.float16).astype(np.float32).tobytes()


def encoded_in(log: Path) -> list[bytes]:
    """Names of the files that a run encoded, in order."""
    return log.read_bytes().split(b"\0")[:-1] if log.exists() else []


def with_small_pieces(folder: Path, seed: int) -> Kills:
    """An index whose pieces are joined, and get lists, as large ones do."""
    index_writer.SMALL_PIECE, index_writer.MOST_PIECES = 4, 3
    for module in ("faiss", "pyarrow.compute", "pyarrow.parquet"):
        importlib.import_module(module)  # here, and not in every process
    index_choice.EXACT_NUMBERS, index_choice.GRAPH_NUMBERS = 100 * 16, 0
    return Kills(folder, seed)


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(prog="python -m indexing.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        work = with_small_pieces(Path(name), asked.seed)
        for done in range(0, asked.kills, AT_A_TIME):
            work.kill(min(AT_A_TIME, asked.kills - done))
            said = ", ".join(f"{what} {count}" for what, count in sorted(work.counts.items()))
            print(f"seed {asked.seed}, {time.monotonic() - begun:.0f} s, none lost: {said}", flush=True)


if __name__ == "__main__":
    main()
