"""Whole commands: `python -m benchmarks.whole_commands [indexing] [memory]` (both without a name).

- indexing: `bt index` on 12-megapixel JPEGs, beside decoding alone and encoding alone;
- memory: peak memory of `bt index` for 20,000 small images, beside 2,000.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.base_checkpoint import base_checkpoint, cache_folder
from benchmarks.command import BT, run
from benchmarks.decoding import draw


def indexing(folder: Path, count: int, model: str, dtype: str) -> None:
    """Images per second of `bt index`, of its decoding alone and of its network alone."""
    import bt_cli
    from bt_cli.preprocessing.decoding import DecodeStream

    place = folder / "large"
    large_photographs(place, count)
    paths = sorted(map(str, place.iterdir()))
    encoder = bt_cli.load(model, dtype=dtype)
    start = time.perf_counter()
    with DecodeStream(paths, encoder.image_processor, batch_size=encoder.batch_size) as stream:
        pixels = next(iter(stream)).pixel_values  # a whole batch, as most are
        for _ in stream:
            pass
    decoding = time.perf_counter() - start
    encoder.encode_pixels(pixels)
    start = time.perf_counter()
    for _ in range(-(-count // len(pixels))):
        encoder.encode_pixels(pixels)
    network = time.perf_counter() - start
    del encoder
    nothing = run(*BT, "index", place / "00000.jpg", "--index", folder / "one", "--model", model, "--dtype", dtype)
    made = run(*BT, "index", place, "--index", folder / "index", "--model", model, "--dtype", dtype)
    whole = made.seconds - nothing.seconds  # without starting and loading weights
    print(
        f"bt index, {count} JPEGs of 12 megapixels, {Path(model).name}, {encoder_name(dtype)}: "
        f"{count / whole:.2f} images/s after loading; decoding alone {count / decoding:.2f}, "
        f"network alone {count / network:.2f}; share of the slower {max(decoding, network) / whole:.2f} (goal 0.9), "
        f"of both together {(decoding + network) / whole:.2f}; peak {made.peak:.0f} MB"
    )


def encoder_name(dtype: str) -> str:
    """The precision in words."""
    return "automatic precision" if dtype == "auto" else dtype


def large_photographs(place: Path, count: int) -> None:
    """Eight pictures of 4000 x 3000 at different crops of one drawing, copied with a different last byte each."""
    place.mkdir(parents=True, exist_ok=True)
    if len(list(place.iterdir())) == count:
        return
    first = []
    for seed in range(8):
        draw(4000, 3000, seed).save(place / "first.jpg", quality=90)
        first.append((place / "first.jpg").read_bytes())
    (place / "first.jpg").unlink()
    for number in range(count):
        (place / f"{number:05}.jpg").write_bytes(first[number % 8] + number.to_bytes(4, "big"))


def memory(folder: Path, few: int = 2_000, many: int = 20_000) -> None:
    """Peak memory for few and for many images."""
    peaks = []
    for count in (few, many):
        place = folder / f"small-{count}"
        small_pictures(place, count)
        peaks.append(run(*BT, "index", place, "--index", folder / f"index-{count}", "--model", "tiny").peak)
    print(
        f"peak memory of bt index with tiny: {few:,} images {peaks[0]:.0f} MB, {many:,} images {peaks[1]:.0f} MB, "
        f"{100 * (peaks[1] / peaks[0] - 1):+.1f} % (goal: within 10 %)"
    )


def small_pictures(place: Path, count: int) -> None:
    """JPEGs of 64 x 64, all different."""
    place.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(place / f"{number:05}.jpg", quality=80)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_commands", description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="*", choices=[[], "indexing", "memory"], default=[])
    parser.add_argument("--images", type=int, default=500, help="for indexing")
    parser.add_argument("--model", help="for indexing; default: random weights of the official base shape")
    parser.add_argument("--dtype", default="auto", help="for indexing")
    asked = parser.parse_args()
    which = asked.which or ["indexing", "memory"]
    cache_folder().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache_folder()))
    try:
        if "indexing" in which:
            indexing(folder, asked.images, asked.model or str(base_checkpoint()), asked.dtype)
        if "memory" in which:
            memory(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
