"""`make torture`: every kind of try, each for its share of the time, over two processes, and the table at the end."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from torture.attempt import attempt
from torture.captions import Captions
from torture.checkpoints import Checkpoints
from torture.kills import Kills
from torture.ordeal import Ordeal
from torture.pictures import Pictures
from torture.runs import Runs
from torture.stores import Stores, Swaps
from torture.tally import Tally, Try
from torture.two_at_once import TwoAtOnce

from bt_cli.commands.app import main as bt

KINDS: list[type[Ordeal]] = [Stores, Swaps, Pictures, Checkpoints, Captions, Runs, Kills, TwoAtOnce]
PROCESSES = 2
LEAST_SECONDS = 20.0
"""Of a kind, on a machine on which those of fixed number take all the time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tries and print what came of them; 1 where one was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of every try, with its kind and its number")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all kinds together")
    parser.add_argument("--only", choices=[kind.kind for kind in KINDS], help="this kind alone")
    parser.add_argument("--number", type=int, help="this try of it alone")
    asked = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if asked.only in (None, kind.kind)]
    began = time.monotonic()
    tally = Tally()
    with quiet_home() as folder:
        warm_up()
        for kind, seconds in shares(kinds, asked.minutes * 60):
            numbers = [asked.number] if asked.number is not None else None
            for done in tries(kind(folder / kind.kind), asked.seed, seconds, numbers):
                tally.add(done)
            row = tally.rows[kind.kind]
            print(f"{time.monotonic() - began:5.0f} s  {kind.kind}: {row.tried:,} tried, {row.lost} lost", flush=True)
    print("\n".join(["", *tally.lines(asked.seed)]), flush=True)
    return 1 if tally.lost else 0


def shares(kinds: Sequence[type[Ordeal]], seconds: float) -> Iterator[tuple[type[Ordeal], float]]:
    """Each kind with its time: what those of fixed number left over is shared by weight, and no kind goes without."""
    end = time.monotonic() + seconds
    ordered = sorted(kinds, key=lambda kind: kind.count is None)
    weight = sum(kind.weight for kind in ordered if kind.count is None)
    for kind in ordered:
        share = (end - time.monotonic()) * kind.weight / weight if kind.count is None else seconds
        yield kind, max(share, min(seconds, LEAST_SECONDS))
        if kind.count is None:
            weight -= kind.weight


def tries(
    ordeal: Ordeal, seed: int, seconds: float, numbers: Sequence[int] | None = None, processes: int = PROCESSES
) -> list[Try]:
    """The tries of one kind, in the order of their numbers; every second one by the other process."""
    ordeal.folder.mkdir(parents=True)
    end = time.monotonic() + seconds
    ordeal.prepare()
    if numbers is not None:
        return [one(ordeal, seed, number) for number in numbers]
    done: list[Try] = []
    files = [ordeal.folder / f"done-{process}" for process in range(processes)]
    children = [_worker(ordeal, seed, end, process, file, processes) for process, file in enumerate(files)]
    for child, file in zip(children, files, strict=True):
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"a process of the torture itself failed; {ordeal.kind}")
        done += pickle.loads(file.read_bytes())
    shutil.rmtree(ordeal.folder, ignore_errors=True)
    return sorted(done, key=lambda each: each.number)


def one(ordeal: Ordeal, seed: int, number: int) -> Try:
    """One try: the same for the same seed, kind and number."""
    chance = random.Random(f"{seed} {ordeal.kind} {number}")
    scratch = ordeal.folder / f"try-{number}"
    target, work = ordeal.draw(chance, number, scratch)
    outcome = attempt(work, seconds=ordeal.seconds)
    shutil.rmtree(scratch, ignore_errors=True)
    return Try(ordeal.kind, number, target, outcome)


def _worker(ordeal: Ordeal, seed: int, end: float, first: int, file: Path, step: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        done, number = [], first
        while number < ordeal.count if ordeal.count is not None else time.monotonic() < end:
            done.append(one(ordeal, seed, number))
            number += step
        file.write_bytes(pickle.dumps(done))
        code = 0
    finally:
        os._exit(code)


def warm_up() -> None:
    """Import here, once, what every forked process would import for itself."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        bt(["info"])
        picture = Path(__file__).resolve().parents[2] / "sample_data" / "images" / "scene-0001.jpg"
        bt(["score", str(picture), "a red car", "--model", "tiny"])


@contextlib.contextmanager
def quiet_home() -> Iterator[Path]:
    """A folder to work in, with a home of its own, no network and none of the user's settings."""
    for name in [name for name in os.environ if name.startswith(("BT_", "HF_", "XDG_"))]:
        del os.environ[name]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # there is much to be synced
    folder = Path(tempfile.mkdtemp(prefix="bt-torture-", dir=memory))
    try:
        os.environ |= {
            "HOME": str(folder / "home"),
            "HF_HOME": str(folder / "home" / "hf"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
        }
        (folder / "home").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
