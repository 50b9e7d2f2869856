"""Small JPEG files with EXIF, as a camera or a phone writes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

MAKE, MODEL, EXIF, GPS = 0x010F, 0x0110, 0x8769, 0x8825
ORIGINAL, OFFSET, FRACTION = 0x9003, 0x9011, 0x9291


def exif_of(
    taken: str = "",
    offset: str = "",
    make: str = "",
    model: str = "",
    place: tuple[float, float] | None = None,
    fraction: str = "",
) -> Image.Exif:
    """EXIF with what is given; `place` is (latitude, longitude)."""
    exif = Image.Exif()
    for tag, text in ((MAKE, make), (MODEL, model)):
        if text:
            exif[tag] = text
    for tag, text in ((ORIGINAL, taken), (OFFSET, offset), (FRACTION, fraction)):
        if text:
            exif.get_ifd(EXIF)[tag] = text
    if place is not None:
        gps: dict[int, Any] = exif.get_ifd(GPS)
        for tag, degrees, sides in ((1, place[0], "NS"), (3, place[1], "EW")):
            gps[tag] = sides[degrees < 0]
            whole, rest = divmod(abs(degrees), 1)
            gps[tag + 1] = (whole, float(int(rest * 60)), rest * 60 % 1 * 60)
    return exif


def photograph(path: Path, *, colour: tuple[int, int, int] = (200, 80, 40), side: int = 32, **facts: Any) -> Path:
    """A JPEG of one colour with EXIF as `exif_of` makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(colour, side, **facts))
    return path


def jpeg(colour: tuple[int, int, int] = (200, 80, 40), side: int = 32, **facts: Any) -> bytes:
    """The bytes of `photograph`."""
    written = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(written, "JPEG", exif=exif_of(**facts))
    return written.getvalue()
