"""What bfloat16 and int8 cost in quality, against float32: `python -m benchmarks.quality [--model tiny] [-n 1000]`.

Embeddings' cosines with float32's, and every R@k of both stages on drawn scenes of the test split (those of
`benchmarks.scenes`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scenes import CANDIDATES, QUALITY, SIDE

GOALS = {"bfloat16": (0.999, 0.005), "int8": (0.99, 0.02)}
"""Least cosine, and most that any R@k may differ."""

KEYS = tuple(f"{way}@{k}" for way in ("tr", "ir") for k in (1, 5, 10))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("-n", type=int, default=1000, help="scenes")
    asked = parser.parse_args()
    from bt_cli.scenes import SpriteSheet
    from sample_data.collection import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, asked.n, "test", sheet=SpriteSheet.load(), size=SIDE, quality=QUALITY)
        exact = measured(asked.model, "float32", Path(folder))
        print(f"{asked.model}, {asked.n} scenes; in brackets the difference from float32 in points")
        print(row("float32", exact, exact))
        for precision in GOALS:
            made = measured(asked.model, precision, Path(folder))
            print(row(precision, made, exact))
            print(verdict(precision, made, exact))


def measured(name: str, precision: str, folder: Path) -> dict[str, Any]:
    """Embeddings of images and captions, and the metrics of both stages."""
    import bt_cli
    from bt_cli.captions.captions import read_captions
    from bt_cli.evaluation.gallery import Gallery
    from bt_cli.evaluation.protocol import run_protocol

    model = bt_cli.load(name, dtype=precision, device="cpu")
    captions = read_captions(folder / "captions.csv")
    gallery = Gallery.of(captions, folder / "images")
    outcome = run_protocol(gallery, model, model, candidates=CANDIDATES)
    texts = [item.text for item in captions.items]
    paths = sorted(str(path) for path in (folder / "images").iterdir())
    rows = np.concatenate([model.encode_images(paths), model.encode_texts(texts)])
    return {"rows": rows, "itc": outcome.itc, "itm": outcome.itm}


def row(precision: str, made: dict[str, Any], exact: dict[str, Any]) -> str:
    """Two lines of metrics."""
    lines = []
    for stage in ("itc", "itm"):
        cells = [f"{100 * made[stage][key]:6.1f} ({100 * (made[stage][key] - exact[stage][key]):+.1f})" for key in KEYS]
        lines.append(
            f"{precision:9} {stage}  " + "  ".join(f"{key} {cell}" for key, cell in zip(KEYS, cells, strict=True))
        )
    return "\n".join(lines)


def verdict(precision: str, made: dict[str, Any], exact: dict[str, Any]) -> str:
    """Cosines and the largest difference, each beside its goal."""
    cosines = (made["rows"] * exact["rows"]).sum(axis=1)
    least, most = GOALS[precision]
    worst = max(abs(made[stage][key] - exact[stage][key]) for stage in ("itc", "itm") for key in KEYS)
    return (
        f"{precision:9} cosine with float32: least {cosines.min():.5f}, mean {cosines.mean():.5f} (goal {least}); "
        f"largest difference of an R@k {100 * worst:.2f} points (goal {100 * most:g})"
    )


if __name__ == "__main__":
    main()
