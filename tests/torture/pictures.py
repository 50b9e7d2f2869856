"""Pictures that were cut, overwritten or forged: decoded, or refused in one line."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from torture.attempt import Lost, Outcome, command, judged
from torture.mutation import mutated
from torture.ordeal import Ordeal, Work

from bt_cli.preprocessing.image_processor import ImageProcessor

SIDE = 64
SAVES: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 80}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg.tif": ("TIFF", {"compression": "jpeg"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "plain.tif": ("TIFF", {}),
    "ppm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
    "avif": ("AVIF", {}),
    "tga": ("TGA", {}),
    "ico": ("ICO", {}),
}
EVERY = 25
"""One try in so many goes through a whole command."""


def whole_pictures() -> dict[str, bytes]:
    """One picture in every format that Pillow here can write, with EXIF and a colour profile where it has room."""
    numbers = np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(numbers).resize((160, 96))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = {}
    for suffix, (format, options) in SAVES.items():
        file = io.BytesIO()
        more = {"exif": exif, "icc_profile": profile} if format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
        try:
            picture.save(file, format, **options, **more)
        except (OSError, KeyError, ValueError):
            continue  # a Pillow without that encoder
        made[suffix] = file.getvalue()
    alpha = io.BytesIO()
    picture.convert("LA").save(alpha, "PNG")
    made["la.png"] = alpha.getvalue()
    cmyk = io.BytesIO()
    picture.convert("CMYK").save(cmyk, "JPEG", icc_profile=profile)
    made["cmyk.jpg"] = cmyk.getvalue()
    return made


class Pictures(Ordeal):
    """Mutated pictures of every format."""

    kind = "pictures"
    weight = 2.0

    def prepare(self) -> None:
        self.whole = whole_pictures()
        self.processor = ImageProcessor.from_dict({"size": SIDE})
        for suffix, content in self.whole.items():
            (self.folder / f"whole.{suffix}").write_bytes(content)
            assert self.processor(self.folder / f"whole.{suffix}").shape[0] == 3

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        suffix = chance.choice(sorted(self.whole))
        scratch.mkdir()
        file = scratch / f"p.{suffix}"
        file.write_bytes(mutated(self.whole[suffix], chance))
        if number % EVERY == 0:
            whole = scratch / "whole.png"
            whole.write_bytes(self.whole["png"])
            return suffix, lambda: _encoded(scratch)
        return suffix, lambda: self.decoded(file)

    def decoded(self, file: Path) -> Outcome:
        pixels = self.processor(file)
        if pixels.ndim != 3 or pixels.shape[0] != 3 or not np.isfinite(pixels).all():
            raise Lost(f"pixels of shape {pixels.shape}, or not finite")
        return Outcome("right")


def _encoded(folder: Path) -> Outcome:
    """Both pictures through `bt encode`: the whole one has its row whatever the other is."""
    out = folder / "out.parquet"
    outcome = judged(command("encode", "images", folder, "-o", out, "--model", "tiny", "--device", "cpu"))
    if outcome.word != "right":
        raise Lost(f"{outcome.word}: {outcome.detail}")
    import pyarrow.parquet

    paths = pyarrow.parquet.read_table(out).column("path").to_pylist()
    if not any(path.endswith("whole.png") for path in paths):
        raise Lost(f"only {paths}")
    return outcome
