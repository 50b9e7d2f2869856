"""Files of runs, harmed: TREC runs, judgements and queries, and the state and log of a training run."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioned_folder import captioned_folder
from random_checkpoint import random_checkpoint
from torture.attempt import Lost, Outcome, command, judged
from torture.checkpoints import in_its_place
from torture.mutation import mutated
from torture.ordeal import Ordeal, Work

from bt_cli.datasets.trec import read_qrels, read_queries, read_run, read_texts

EVERY = 12
"""One try in so many goes on with a training run."""
RUN = "".join(f"q{query} Q0 d{rank} {rank} {9 - rank}.5 tag\n" for query in range(3) for rank in range(1, 6)).encode()
QRELS = "".join(f"q{query} 0 d{rank} {rank % 2}\n" for query in range(3) for rank in range(1, 6)).encode()
QUERIES = "".join(f"q{query}\ta query of number {query}\n" for query in range(3)).encode()
READERS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "run": (RUN, read_run),
    "qrels": (QRELS, read_qrels),
    "queries": (QUERIES, read_queries),
    "texts": (QUERIES, read_texts),
}


class Runs(Ordeal):
    """Mutated run files, plain and compressed, and training runs that are gone on with."""

    kind = "runs"
    weight = 1.5
    seconds = 120

    def prepare(self) -> None:
        self.captions = captioned_folder(self.folder / "images")
        self.model = random_checkpoint(self.folder / "model")
        ran = self.trained(self.folder / "whole", 2)
        assert ran.word == "right", ran

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        if number % EVERY == 0:
            shutil.copytree(self.folder / "whole", scratch)
            file = chance.choice(sorted(path for path in scratch.rglob("*") if path.is_file()))
            content = file.read_bytes()
            if chance.random() < 0.15:
                file.unlink()
                how = in_its_place(file, chance)
            else:
                file.write_bytes(mutated(content, chance))
                how = "its bytes"
            return f"training, {file.name}: {how}", lambda: self.trained(scratch, 3)
        scratch.mkdir()
        name = chance.choice(sorted(READERS))
        content, reader = READERS[name]
        packed = chance.random() < 0.4
        file = scratch / (f"{name}.gz" if packed else name)
        if number % 60 == 1:
            how = in_its_place(file, chance, pipes=False)
        else:
            file.write_bytes(harmed(content, packed, chance))
            how = "its bytes"
        return f"{file.name}: {how}", lambda: _read(file, reader)

    def trained(self, out: Path, steps: int) -> Outcome:
        # Without decay the rate does not depend on the number of steps: a finished run can be gone on with.
        words = ["train", self.captions, "--out", out, "--model", self.model, "--steps", str(steps), "--decay", "0"]
        words += ["--warmup", "1", "--batch-size", "4", "--device", "cpu", "--dtype", "float32"]
        outcome = judged(command(*words))
        if outcome.word == "right" and not (out / "model.safetensors").is_file():
            raise Lost("no checkpoint")
        return outcome


def harmed(content: bytes, packed: bool, chance: random.Random) -> bytes:
    """Changed before or after it is compressed; now and then a bomb."""
    if not packed:
        return mutated(content, chance)
    kind = chance.randrange(8)
    if kind == 0:
        return gzip.compress(bytes(300_000_000), 1)
    if kind < 3:
        return gzip.compress(mutated(content, chance))
    return mutated(gzip.compress(content), chance)


def _read(file: Path, reader: Callable[[Path], Any]) -> Outcome:
    found = reader(file)
    if not all(isinstance(key, str) for key in found):
        raise Lost("an id that is no text")
    return Outcome("right")
