"""The two sides of the speed benchmark, each in a process of its own that works when told to and waits in between.

`python -m benchmarks.engines SIDE FOLDER THREADS` reads one task a line, `name count`, and answers with one line, the
seconds it took. SIDE is `port` (transformers, float32, eager attention: as its documentation loads it), `port-bfloat16`
or a precision of bt. Every task gets the same pixels and ids on both sides; decoding is not part of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENS = 16
IMAGE_SIZE = 288


class Engine:
    """A worker process, from the outside."""

    def __init__(self, side: str, folder: Path, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "benchmarks.engines", side, str(folder), str(threads)]
        self.side = side
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._read()

    def seconds(self, task: str, count: int) -> float:
        """Time that the worker took for a task."""
        assert self.process.stdin is not None
        print(task, count, file=self.process.stdin, flush=True)
        return float(self._read())

    def close(self) -> None:
        """End the worker."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: the {self.side} side ended")
        return line.strip()


def sample_pixels(count: int) -> Any:
    """(count, 3, 288, 288) float32, the same on every side."""
    import torch

    return torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def sample_ids(count: int) -> Any:
    """(count, 16) int64, the same on every side, without padding."""
    import torch

    return torch.randint(4, 50000, (count, TOKENS), generator=torch.Generator().manual_seed(1))


def port_tasks(folder: str, dtype: str) -> dict[str, Callable[[int], object]]:
    """What transformers can do: whole forward passes over aligned pairs."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind = {"dtype": getattr(torch, dtype)}
    itc = transformers.BridgeTowerForContrastiveLearning.from_pretrained(folder, **kind).eval()
    itm = transformers.BridgeTowerForImageAndTextRetrieval.from_pretrained(folder, **kind).eval()

    def run(model: Any, count: int) -> None:
        """Batches of four pairs: on a CPU larger ones are no faster."""
        for start in range(0, count, 4):
            some = min(4, count - start)
            pixels = sample_pixels(some).to(kind["dtype"])
            ids = sample_ids(1).expand(some, -1)
            with torch.inference_mode():
                model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)

    return {"embed": lambda count: run(itc, count), "pairs": lambda count: run(itm, count)}


def bt_tasks(folder: str, precision: str) -> dict[str, Callable[[int], object]]:
    """The same work by bt, and what only it can do."""
    import torch

    import bt_cli
    from bt_cli.bridgetower.states import ImageStates, TextStates
    from bt_cli.inference.matching import all_pairs

    model = bt_cli.load(folder, dtype=precision, device="cpu")
    network = model.network
    kept: dict[int, ImageStates] = {}

    def images(count: int, bridges: bool) -> ImageStates:
        pixels = sample_pixels(count).numpy()
        parts = [
            model.pixel_states(pixels[start : start + model.batch_size], bridges=bridges, embeds=not bridges)
            for start in range(0, count, model.batch_size)
        ]
        return ImageStates.cat(parts)

    def texts(count: int) -> TextStates:
        with torch.inference_mode():
            return network.encode_texts(sample_ids(count), None, bridges=True, embeds=False)

    def grid(count: int) -> None:
        model.itm_logits(images(count, True), texts(count), all_pairs(count, count))

    def cached(count: int) -> None:
        if count not in kept:
            kept[count] = images(count, True)
        model.itm_logits(kept[count], texts(1), all_pairs(count, 1))

    def tower(count: int) -> None:
        # All rows of the deepest block too, in the slices in which images are encoded.
        vision = network.vision_tower
        assert vision is not None
        model.parts.pool.map(lambda part: vision(part, 1), model.parts.slices(sample_pixels(count)))

    def pairs(count: int) -> None:
        model.itm_logits(images(count, True), texts(1), all_pairs(count, 1))

    return {
        "embed": lambda count: images(count, False),
        "pairs": pairs,
        "cached": cached,
        "grid": grid,
        "tower": tower,
    }


def work(side: str, folder: str, threads: int) -> None:
    """Answer tasks until the input ends."""
    import torch

    torch.set_num_threads(threads)
    answers = sys.stdout
    sys.stdout = sys.stderr
    tasks = (
        port_tasks(folder, side.partition("-")[2] or "float32") if side.startswith("port") else bt_tasks(folder, side)
    )
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, count = line.split()
        start = time.perf_counter()
        tasks[name](int(count))
        print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
