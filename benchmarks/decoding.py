"""From image files to pixels: how fast, against the port's processor, and what a draft costs in exactness.

    python -m benchmarks.decoding [--images 24] [--size 288]

The pictures are drawn, with fine grain on them, at 12 megapixels and at 640 x 480, and saved as JPEG of quality 90.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from bt_cli.preprocessing.decoding import DecodeStream, default_workers
from bt_cli.preprocessing.image_processor import ImageProcessor


def draw(width: int, height: int, seed: int) -> Image.Image:
    """Soft shapes at three scales, under grain as of a sensor."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (height // step, width // step, 3), dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            ),
            np.float32,
        )
        for step in (300, 60, 12)
    ]
    grain = generator.normal(0, 5, (height, width, 3)).astype(np.float32)
    return Image.fromarray(
        np.clip(0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2] + grain, 0, 255).astype(np.uint8)
    )


def milliseconds(work: Callable[[], object], times: int = 5) -> float:
    """Processor time of the fastest of some runs, in one thread."""
    found = []
    for _ in range(times):
        begun = time.thread_time()
        work()
        found.append(time.thread_time() - begun)
    return 1000 * min(found)


def compare(path: Path, size: int) -> None:
    """Print what one image costs in the port, exactly, and as a draft, and how far the draft is from exact."""
    processor = ImageProcessor.from_dict({"size": size})
    rows: list[tuple[str, Callable[[], object]]] = [
        ("bt, exact", lambda: processor(path)),
        ("bt, draft", lambda: processor(path, exact=False)),
    ]
    try:
        from transformers.models.bridgetower.image_processing_pil_bridgetower import BridgeTowerImageProcessorPil
    except ImportError:
        print("  transformers is not installed: no comparison")
    else:
        edges = {"shortest_edge": size}
        port = BridgeTowerImageProcessorPil(size=edges, crop_size=edges)
        rows.insert(0, ("transformers", lambda: port(Image.open(path), return_tensors="np")))
    for name, work in rows:
        print(f"  {name:14} {milliseconds(work):7.1f} ms an image")
    exact = np.asarray(processor.resized(path), np.float32)
    error = exact - np.asarray(processor.resized(path, exact=False), np.float32)
    print(f"  a draft differs by {np.sqrt((error**2).mean()):.2f} of 255 levels (root mean square)")


def stream(paths: list[Path], size: int) -> None:
    """Print images per second of the stream for some numbers of threads."""
    processor = ImageProcessor.from_dict({"size": size})
    for workers in sorted({1, 2, 4, 8, default_workers()}):
        if workers > default_workers():
            continue
        begun = time.perf_counter()
        decoded = sum(len(batch.indices) for batch in DecodeStream(paths, processor, batch_size=8, workers=workers))
        print(f"  {workers:2} threads      {decoded / (time.perf_counter() - begun):7.1f} images a second (draft)")


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=24, help="pictures in the stream of each size")
    parser.add_argument("--size", type=int, default=288, help="shorter side that the network sees")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((640, 480), (4000, 3000)):
            paths = [Path(folder) / f"{width}-{number}.jpg" for number in range(4)]
            for number, path in enumerate(paths):
                draw(width, height, number).save(path, quality=90)
            print(f"{width} x {height}, {paths[0].stat().st_size >> 10} KiB")
            compare(paths[0], options.size)
            stream((paths * options.images)[: options.images], options.size)


if __name__ == "__main__":
    main()
