"""A heat map: a strip of panels, one for all words together and one a word, each the image with where it counted."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_cli.preprocessing.image_file import ImageSource
    from bt_cli.preprocessing.image_processor import ImageProcessor

SIDE, GAP, LABEL, ACROSS = 240, 14, 48, 6
PAPER, INK, SOFT = (255, 255, 255), (29, 28, 26), (105, 101, 94)
RAMP = ((68, 1, 84), (187, 55, 84), (249, 142, 9), (252, 255, 164))
"""From little to much; each step lighter than the one before, so that it reads in grey, too."""
VEIL, STRONGEST = 0.6, 0.85


def write_heat_map(
    place: Path,
    image: ImageSource,
    processor: ImageProcessor,
    words: Sequence[str],
    maps: NDArray[np.float32],
    *,
    overall: str | None = "all words",
) -> None:
    """Write `heat_map_png` to `place`.

    Raises:
        Unwritable: `place` can't be written.
    """
    write_whole(place, heat_map_png(image, processor, words, maps, overall=overall))


def heat_map_png(
    image: ImageSource,
    processor: ImageProcessor,
    words: Sequence[str],
    maps: NDArray[np.float32],
    *,
    overall: str | None = "all words",
) -> bytes:
    """The strip of an explanation as a PNG.

    Args:
        image: The image that was explained; it is shown as far as the network saw it.
        processor: What made its pixels.
        words: n words.
        maps: (n, rows, columns) float32, shares of one whole.
        overall: What the panel of all words together is called; None: there is none.
    """
    seen = what_was_seen(image, processor)
    panels = [(word, panel) for word, panel in zip(words, maps, strict=True)]
    if overall is not None:
        panels.insert(0, (overall, maps.sum(axis=0)))
    file = io.BytesIO()
    strip(seen, panels).save(file, "PNG", optimize=True)
    return file.getvalue()


def what_was_seen(image: ImageSource, processor: ImageProcessor) -> Image.Image:
    """The part of the image that the processor keeps, at `SIDE` pixels a longer side, in the network's proportions."""
    decoded = processor.decoded(image)
    height, width = processor.resized_size(decoded.height, decoded.width)
    out_height, out_width = processor.output_size or (height, width)
    left, top = (width - out_width) // 2, (height - out_height) // 2
    across, down = decoded.width / width, decoded.height / height
    box = (
        round(left * across),
        round(top * down),
        round((left + out_width) * across),
        round((top + out_height) * down),
    )
    scale = SIDE / max(out_height, out_width)
    size = max(1, round(out_width * scale)), max(1, round(out_height * scale))
    return decoded.image.crop(box).resize(size, Image.Resampling.BICUBIC)


def strip(seen: Image.Image, panels: Sequence[tuple[str, NDArray[np.float32]]]) -> Image.Image:
    """Panels side by side, at most `ACROSS` in a row, each over its word and its share of the whole."""
    rows = max(1, math.ceil(len(panels) / ACROSS))
    columns = max(1, math.ceil(len(panels) / rows))  # rows of like length
    width, height = seen.width + GAP, seen.height + LABEL + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(13)
    for number, (word, shares) in enumerate(panels):
        row, column = divmod(number, columns)
        left, top = GAP + column * width, GAP + row * height
        sheet.paste(overlaid(seen, shares), (left, top))
        pen.text(
            (left, top + seen.height + 5), _fitting(_drawable(shown_path(word), large), seen.width, large), INK, large
        )
        pen.text((left, top + seen.height + 27), f"{100 * float(shares.sum()):.0f} %", SOFT, small)
    return sheet


def _drawable(said: str, font: Any) -> str:
    """A word with every character that the font lacks as its number: boxes would look alike whatever they stand for."""
    if said.isascii():
        return said
    missing = bytes(font.getmask("\uffff"))
    return "".join(
        ascii(one)[1:-1] if not one.isascii() and bytes(font.getmask(one)) == missing else one for one in said
    )


def _fitting(said: str, width: int, font: Any) -> str:
    """As much of a word as its panel has room for."""
    if font.getlength(said) <= width:
        return said
    kept = len(said)
    while kept and font.getlength(said[:kept] + "…") > width:
        kept -= 1
    return said[:kept] + "…"


def overlaid(seen: Image.Image, shares: NDArray[np.float32]) -> Image.Image:
    """The image in pale grey, and over it the map in colour, each map on a scale of its own: its greatest value is the
    lightest."""
    greatest = float(shares.max(initial=0.0))
    small = Image.fromarray((shares / greatest if greatest > 0 else np.zeros_like(shares)).astype(np.float32))
    heat = np.clip(np.asarray(small.resize(seen.size, Image.Resampling.BILINEAR)), 0.0, 1.0)[..., None]
    colour = np.asarray(seen, dtype=np.float32)
    grey = colour.mean(axis=-1, keepdims=True)
    base = VEIL * (0.35 * colour + 0.65 * grey) + (1 - VEIL) * 225
    stops = np.linspace(0, 1, len(RAMP))
    ramp = np.concatenate([np.interp(heat, stops, [stop[channel] for stop in RAMP]) for channel in range(3)], axis=-1)
    opacity = STRONGEST * heat**0.7
    return Image.fromarray(np.clip(base * (1 - opacity) + ramp * opacity, 0, 255).astype(np.uint8))
