"""How long commands take to start: each over the floor of its imports, alternating, medians.

    python -m benchmarks.start [--rounds 10] [--models FOLDER]

- floors: a bare Python, `import numpy`, `import torch`, and typer with the libraries that it needs to read options;
- the commands that have little else to do: help, completion, models, info, score and rerank of one image, a small file
  of captions;
- `bt search` with tiny on 320 and 100,000 images; with --models, on 10,000 images with each checkpoint below a folder.

The seconds of the processor are given beside those of the clock: they hardly swing when other programs run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.base_checkpoint import cache_folder
from benchmarks.command import BT

FLOORS = {
    "python": "pass",
    "numpy": "import numpy",
    "torch": "import torch",
    "options": "import typer",
    "options and numpy": "import typer, numpy",
}
COMPLETING = ("_BT_COMPLETE=complete_bash", "COMP_WORDS=bt se", "COMP_CWORD=1")


class Times(NamedTuple):
    """Seconds by the clock and of the processor."""

    clock: float
    processor: float


def measured(command: tuple[str, ...], environment: Mapping[str, str]) -> Times:
    """Run once; SystemExit where it fails."""
    nowhere = [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_RDWR, 0) for place in (0, 1)]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment, file_actions=nowhere)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"benchmark: {' '.join(command)} failed")
    return Times(seconds, usage.ru_utime + usage.ru_stime)


def index_without_encoding(folder: Path, model: str, count: int) -> Path:
    """An index of `count` random embeddings that says that `model` made them."""
    import bt_cli
    from bt_cli.embeddings.embedding_table import vector_array
    from bt_cli.embeddings.image_rows import ImageRows
    from bt_cli.inference.model_identity import identity_of
    from bt_cli.store.index_writer import IndexWriter

    opened = bt_cli.load(model)
    rows = ImageRows.blank([f"photos/{number:06}.jpg" for number in range(count)])
    vectors = np.random.default_rng(0).normal(size=(count, opened.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with IndexWriter(folder, identity_of(opened, precision="float32")) as writer:
        columns = rows.columns(0, count)
        columns["embedding"] = vector_array(vectors, "float16")
        columns["content_hash"] = [f"{number:064x}" for number in range(count)]
        writer.journal.append(columns)
        writer.commit(rows, np.full(count, -1), np.empty(0, np.int64), roots=["photos"])
    return folder


def commands(folder: Path, models: Path | None) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is measured: name to (the floor it is compared with, the command)."""
    picture = folder / "picture.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    small = str(index_without_encoding(folder / "small", "tiny", 320))
    large = str(index_without_encoding(folder / "large", "tiny", 100_000))
    captions = folder / "captions.txt"
    captions.write_text("".join(f"a red fish beside {number} others\n" for number in range(300)))
    queries = folder / "queries.tsv"
    queries.write_text("".join(f"{number}\ta red fish beside {number} others\n" for number in range(1000)))
    asked = ("search", "a red fish", "--quiet", "--index")
    found = {
        "bt --help": ("options", (*BT, "--help")),
        "bt models list": ("options", (*BT, "models", "list")),
        "completion of a command": ("options", (shutil.which("env") or "env", *COMPLETING, *BT)),
        "bt info": ("torch", (*BT, "info", "--index", small, "--quiet")),
        "bt score, 1 image": ("torch", (*BT, "score", "--model", "tiny", str(picture), "a fish", "--quiet")),
        "bt rerank, 1 image": ("torch", (*BT, "rerank", "a fish", "--model", "tiny", str(picture), "--quiet")),
        "bt encode captions, 300": (
            "torch",
            (*BT, "encode", "captions", str(captions), "-o", str(folder / "c.parquet"), "--model", "tiny", "--quiet"),
        ),
        "bt search --queries, 1,000 texts": ("torch", (*BT, "search", "--queries", str(queries), "--index", small)),
        "bt search, tiny, 320 images": ("torch", (*BT, *asked, small)),
        "bt search, tiny, 100,000 images": ("torch", (*BT, *asked, large)),
    }
    for checkpoint in sorted(models.iterdir()) if models is not None else ():
        place = str(index_without_encoding(folder / f"shape-{checkpoint.name}", str(checkpoint), 10_000))
        found[f"bt search, {checkpoint.name}, 10,000 images"] = ("torch", (*BT, *asked, place))
    return found


def main() -> None:
    """Measure everything in turn, round by round, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", type=Path, help="a folder of checkpoint folders")
    asked = parser.parse_args()
    cache_folder().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache_folder()))
    # Modules are compiled once, whatever the caller's habit: that is how an installed bt starts.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    try:
        todo = {name: ("python", (sys.executable, "-c", code)) for name, code in FLOORS.items()}
        todo |= commands(folder, asked.models)
        times: dict[str, list[Times]] = {name: [] for name in todo}
        for number in range(asked.rounds + 1):
            for name, (_, command) in todo.items():
                taken = measured(command, environment)
                if number:  # the first round compiles and fills the page cache
                    times[name].append(taken)
        report(todo, times)
    finally:
        shutil.rmtree(folder)


def report(todo: Mapping[str, tuple[str, tuple[str, ...]]], times: Mapping[str, list[Times]]) -> None:
    """A line for each."""
    print(f"{'':34} {'seconds':>8} {'of processor':>13}  times its floor, by the processor")
    for name, (floor, _) in todo.items():
        clock = statistics.median(each.clock for each in times[name])
        processor = statistics.median(each.processor for each in times[name])
        pairs = zip(times[name], times[floor], strict=True)
        ratio = statistics.median(ours.processor / theirs.processor for ours, theirs in pairs)
        print(f"{name:34} {clock:8.2f} {processor:13.2f}  {ratio:.2f} x {floor}")


if __name__ == "__main__":
    main()
