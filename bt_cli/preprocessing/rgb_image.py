"""Whatever mode an image has as 8 bits each of red, green and blue."""

from __future__ import annotations

import numpy as np
from PIL import Image

STRIP_PIXELS = 1 << 22
"""Transparency is laid on white in strips of about so many pixels: a large image would need four times its size."""

_MAX_SAMPLE_VALUE = 281  # TIFF 6.0, section 8
_WHITE_LEVELS = (255, 1023, 4095, 16_383, 65_535)  # of 8, 10, 12, 14 and 16 bits


def rgb_image(image: Image.Image) -> Image.Image:
    """A loaded image in mode RGB: transparency on white, more than 8 bits a sample narrowed (see `_narrow`)."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _narrow_on_white(image).convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    width, height = image.size
    rows = max(STRIP_PIXELS // width, 1)
    if rows >= height:
        return _strip_on_white(image)
    opaque = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        opaque.paste(_strip_on_white(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return opaque


def _strip_on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return white


def _narrow_on_white(image: Image.Image) -> Image.Image:
    """`_narrow`; the one level that a PNG's tRNS chunk calls transparent, told in 16 bits, becomes white."""
    narrow = _narrow(image)
    level = image.info.get("transparency")
    if isinstance(level, int):
        narrow.paste(255, mask=Image.fromarray(np.asarray(image) == level))
    return narrow


def _narrow(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits (modes I;16*, I, F) to mode L, whole range to whole range.

    Integers within 0..65535: white is what a TIFF states as its MaxSampleValue, else the most that 8, 10, 12, 14 or 16
    bits can hold, the least of these that no value goes beyond: cameras and scanners put 10 to 14 bits into 16. With 16
    that is value / 257, rounded; values within 0..255 stay. Floats within 0..1 are times 255, within 0..255 they stay.
    All else is stretched from its least to its greatest value. Not-a-number counts as black.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        white = _white_level(image, int(values.max()))
        values = values.astype(np.uint32)
        narrow = (values + 128) // 257 if white == 65_535 else (values * 255 + white // 2) // white
        return Image.fromarray(narrow.astype(np.uint8))
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= 1 and image.mode == "F":
        values = values * 255
    elif low >= 0 and high <= 65_535 and image.mode == "I":
        values = values / (_white_level(image, int(high)) / 255)
    elif low >= 0 and high <= 255:
        pass
    else:
        values = (np.clip(values, low, high) - low) * (255 / (high - low or 1))
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _white_level(image: Image.Image, greatest: int) -> int:
    stated = getattr(image, "tag_v2", {}).get(_MAX_SAMPLE_VALUE)
    if isinstance(stated, tuple) and stated:
        stated = stated[0]
    if isinstance(stated, int) and max(greatest, 1) <= stated <= 65_535:
        return stated
    return next(level for level in _WHITE_LEVELS if greatest <= level)
