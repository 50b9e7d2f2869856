"""Commands killed at random moments: what stands is old or new, and the next run ends where one never stopped does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captioned_folder import captioned_folder
from forked_process import in_child
from random_checkpoint import random_checkpoint
from reference.recorded_checkpoint import write_checkpoint
from torture.attempt import Lost, Outcome, command, waited
from torture.ordeal import Ordeal, Work
from torture.stores import PictureEncoder, content_of, pictures_in

from bt_cli.indexing.build import build_index

IMAGES = 400
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


class SlowEncoder(PictureEncoder):
    """A few milliseconds a batch, so that there is something to kill."""

    def _batch(self, numbers: range, paths: Any, captions: Any = None) -> Any:
        time.sleep(0.003)
        return super()._batch(numbers, paths, captions)


class Kills(Ordeal):
    """kill -9 of index, encode, convert and train."""

    kind = "kills"
    weight = 3.0
    seconds = 240

    def prepare(self) -> None:
        self.captions = captioned_folder(self.folder / "images")
        self.model = random_checkpoint(self.folder / "model")
        self.lightning = self.folder / "A.ckpt"
        write_checkpoint(REFERENCE / "original" / "A_full.json", self.lightning)
        self.jobs: dict[str, Callable[[Path], None]] = {
            "index": self.index,
            "update": self.index,
            "encode": self.encode,
            "convert": self.convert,
            "train": self.train,
        }
        self.expected, self.seconds_of = {}, {}
        for name, job in self.jobs.items():
            out = self.folder / f"whole-{name}"
            self.begin(name, out)
            child, began = in_child(lambda job=job, out=out: job(out)), time.monotonic()
            if waited(child, 120) != 0:
                raise RuntimeError(f"{name} fails without being killed")
            self.seconds_of[name] = time.monotonic() - began
            self.expected[name] = left_by(name, out)

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        name = chance.choice(("index", "index", "update", "update", "encode", "convert", "train"))
        moments = [chance.random() * self.seconds_of[name] for _ in range(chance.choice((1, 1, 2)))]

        def do() -> Outcome:
            self.begin(name, scratch)
            for moment in moments:
                child = in_child(lambda: self.jobs[name](scratch))
                time.sleep(moment)
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                if name == "update" and left_by("paths", scratch) not in (OLD, NEW):
                    raise Lost("neither the old index nor the new one")
            code = waited(in_child(lambda: self.jobs[name](scratch)), 120)
            if code != 0:
                raise Lost(f"the run after it: exit code {code}")
            if left_by(name, scratch) != self.expected[name]:
                raise Lost("another result than that of a run that was never stopped")
            return Outcome("right")

        return name, do

    def begin(self, name: str, out: Path) -> None:
        """What stands before the run."""
        out.mkdir()
        if name in ("index", "update"):
            pictures_in(out / "photos", IMAGES, 1)
        if name == "update":
            build_index(out / ".bt", [out / "photos"], PictureEncoder(64))
            pictures_in(out / "photos", IMAGES + NEW_ONES, 1)
            for number in range(IMAGES, IMAGES + NEW_ONES):
                os.utime(out / "photos" / f"{number % 3}" / f"{number:04d}.bmp", ns=(10**18, 10**18))

    def index(self, out: Path) -> None:
        build_index(out / ".bt", [out / "photos"], SlowEncoder(8))

    def encode(self, out: Path) -> None:
        fine("encode", "images", self.captions.parent, "-o", out / "x.parquet", "--model", self.model)

    def convert(self, out: Path) -> None:
        fine("models", "convert", self.lightning, out / "converted")

    def train(self, out: Path) -> None:
        words = ["train", self.captions, "--out", out / "run", "--model", self.model, "--steps", "3"]
        fine(*words, "--batch-size", "4", "--dtype", "float32")


NEW_ONES = 40
OLD, NEW = IMAGES, IMAGES + NEW_ONES


def fine(*words: Any) -> None:
    """Run a command that has to end well."""
    ran = command(*words)
    if ran.code:
        raise RuntimeError(ran.err)


def left_by(name: str, out: Path) -> Any:
    """What a job made, to be compared; leftovers of the killed one are hidden and end in `.part`."""
    if name == "paths":
        return len(content_of(out / ".bt")["vectors"])
    if name in ("index", "update"):
        left = {path.name for path in (out / ".bt").iterdir()}
        known = ("images", "vectors", "paths", "sums", "manifest", "lock")
        return content_of(out / ".bt"), sorted(name for name in left if not name.startswith(known))
    files = sorted(path for path in out.rglob("*") if path.is_file() and ".part" not in str(path.relative_to(out)))
    names = [str(path.relative_to(out)) for path in files]
    if name == "train":  # the log and the state have times in them
        return names, (out / "run" / "model.safetensors").read_bytes()
    return names, [path.read_bytes() for path in files]


def clear(folder: Path) -> None:
    """Remove a folder, whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)
