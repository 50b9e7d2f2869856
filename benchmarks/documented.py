"""The documented examples, the port beside bt: `python -m benchmarks.documented [--rounds N]`.

Each example runs as it is published, without `torch.no_grad()`, its own processor included, on random weights in the
shape of the base model. Both sides take turns within a round, so that a busy machine slows both; a line gives the
medians and how many times faster bt is, in bfloat16 also than the port in float32, which is what it computes in unless
told. The first call of each is left out: bt packs its weights then.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from PIL import Image

import bt_cli
from benchmarks.base_checkpoint import base_checkpoint
from bt_cli.checkpoints.resolve import bundled_folder
from bt_cli.preprocessing.tokenizer import Tokenizer

SENTENCES = ["two cats on a couch", "a football player", "a red car in the snow", "a dog left of a cat", "a tree"]
PAIRS = 32


def checkpoint(folder: Path) -> Path:
    """The random base model with a tokenizer beside it, linked into `folder`."""
    for file in base_checkpoint().iterdir():
        (folder / file.name).symlink_to(file)
    Tokenizer.from_folder(bundled_folder("tiny")).save(folder)
    return folder


def pictures(count: int) -> list[Image.Image]:
    """Different pictures of 640 x 480 pixels."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((640, 480), Image.Resampling.BICUBIC) for each in small]


def matching(library: Any, name: Path, dtype: torch.dtype) -> Callable[[], Any]:
    """The ITM example: one picture, a call for each sentence."""
    processor = library.BridgeTowerProcessor.from_pretrained(name)
    model = library.BridgeTowerForImageAndTextRetrieval.from_pretrained(name, dtype=dtype)
    image = pictures(1)[0]

    def run() -> list[float]:
        scores = []
        for text in SENTENCES:
            encoding = processor(image, text, return_tensors="pt")
            scores.append(model(**encoding).logits[0, 1].item())
        return scores

    return run


def contrast(library: Any, name: Path, dtype: torch.dtype) -> Callable[[], Any]:
    """The ITC example: two pairs, and the same with the texts swapped."""
    processor = library.BridgeTowerProcessor.from_pretrained(name)
    model = library.BridgeTowerForContrastiveLearning.from_pretrained(name, dtype=dtype)
    images, texts = pictures(2), SENTENCES[:2]

    def run() -> list[float]:
        losses = []
        for some in (texts, texts[::-1]):
            inputs = processor(images, some, padding=True, return_tensors="pt")
            losses.append(model(**inputs, return_loss=True).loss.item())
        return losses

    return run


def batch(library: Any, name: Path, dtype: torch.dtype) -> Callable[[], Any]:
    """32 pairs at a time, other pictures in every call, so that nothing is known from the one before."""
    processor = library.BridgeTowerProcessor.from_pretrained(name)
    model = library.BridgeTowerForImageAndTextRetrieval.from_pretrained(name, dtype=dtype)
    images = pictures(PAIRS)
    texts = [f"{SENTENCES[place % 5]} {place}" for place in range(PAIRS)]
    calls = 0

    def run() -> list[float]:
        nonlocal calls
        calls += 1
        turned = [each.rotate(7 * calls) for each in images]
        inputs = processor(turned, texts, padding=True, return_tensors="pt")
        return model(**inputs).logits[:, 1].tolist()

    return run


EXAMPLES = {"ITM, 5 texts x 1 image": matching, "ITC, 2 pairs twice": contrast, "ITM, 32 pairs": batch}


class Measured(NamedTuple):
    """Median seconds of both sides, and how far their results are apart."""

    port: float
    ours: float
    apart: float


def side_by_side(make: Callable[..., Callable[[], Any]], name: Path, dtype: torch.dtype, rounds: int) -> Measured:
    """Run both in turn."""
    sides = {library.__name__: make(library, name, dtype) for library in (transformers, bt_cli)}
    results = {side: run() for side, run in sides.items()}
    apart = max(abs(a - b) for a, b in zip(*results.values(), strict=True))
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            times[side].append(time.perf_counter() - start)
    port, ours = (statistics.median(times[side]) for side in sides)
    return Measured(port, ours, apart)


def main() -> None:
    """Print a line for each example and dtype."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--examples", nargs="+", default=list(EXAMPLES), choices=list(EXAMPLES))
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = Path(tempfile.mkdtemp(prefix="bt-documented-"))
    try:
        name = checkpoint(folder)
        print(f"{'':32} {'port':>10} {'bt':>10}")
        plain: dict[str, float] = {}
        for dtype in given.dtypes:
            for title in given.examples:
                port, ours, apart = side_by_side(EXAMPLES[title], name, getattr(torch, dtype), given.rounds)
                line = f"{title:22} {dtype:9} {port:8.2f} s {ours:8.2f} s {port / ours:7.2f} x   apart {apart:.1e}"
                if dtype == "float32":
                    plain[title] = port
                elif title in plain:
                    line += f"   {plain[title] / ours:.2f} x the port in float32"
                print(line, flush=True)
                gc.collect()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
