"""Cameras' raw files: the preview that the camera put into them, found by LibRaw through rawpy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_SIDE = 256
"""A preview whose shorter side has fewer pixels is a thumbnail: the raw data are developed instead, at half size."""

_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50_706  # TIFF 6.0; TIFF Tech Note 1; DNG 1.7
_EXIF_ORIENTATION = {3: 3, 5: 8, 6: 6}  # by LibRaw's flip: half a turn, a quarter to the left, one to the right


class NeedsRawReader(Exception):
    """This file is a raw one by its first bytes."""


class NotRaw(Exception):
    """LibRaw does not know this file, or finds no image in it."""


class Preview(NamedTuple):
    """The image in a raw file, as a JPEG or as pixels."""

    content: bytes
    """A JPEG file, or nothing."""
    pixels: NDArray[np.uint8] | None
    """(height, width, 3) uint8 where there is no JPEG."""
    orientation: int
    """How to turn it, as EXIF counts; what the JPEG says itself goes before it."""

    def file(self) -> BinaryIO:
        """The JPEG, to be read."""
        return io.BytesIO(self.content)


def is_raw(image: Image.Image) -> bool:
    """Whether what Pillow opened as a TIFF is the thumbnail at the head of a raw file (DNG, NEF, ARW...)."""
    if image.format != "TIFF":
        return False
    tags: Any = getattr(image, "tag_v2", {})
    reduced = tags.get(_NEW_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags
    return reduced or _DNG_VERSION in tags


def preview(file: BinaryIO) -> Preview:
    """The largest preview of a raw file; without one worth the name, the raw data developed at half size.

    Raises:
        NotRaw: LibRaw can't open it.
    """
    import rawpy

    try:
        with rawpy.imread(file) as raw:
            found = _embedded(raw)
            if found is not None:
                return found
            return Preview(b"", raw.postprocess(half_size=True, use_camera_wb=True), 1)  # upright by itself
    except rawpy.LibRawError as error:
        raise NotRaw(str(error)) from error


def _embedded(raw: Any) -> Preview | None:
    import rawpy

    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumbnail.format == rawpy.ThumbFormat.JPEG:
        content, pixels = bytes(thumbnail.data), None
        try:
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
        except (OSError, SyntaxError, ValueError):
            return None
    elif thumbnail.format == rawpy.ThumbFormat.BITMAP:
        content, pixels = b"", thumbnail.data
        height, width = pixels.shape[:2]
    else:
        return None
    if min(width, height) < LEAST_SIDE:
        return None
    flip = raw.sizes.flip
    # Some cameras turn the preview already.
    turned = flip in (5, 6) and (width < height) != (raw.sizes.raw_width < raw.sizes.raw_height)
    return Preview(content, pixels, 1 if turned else _EXIF_ORIENTATION.get(flip, 1))
