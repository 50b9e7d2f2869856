"""Images that are sound enough to be taken: PNGs with metadata that Pillow refuses, JPEGs that end too early."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

MOST_MISSING = 0.25
"""Share of a JPEG's rows that may be missing at its end."""

END_MARK = b"\xff\xd9"

LONGEST_TEXT = 1 << 20
"""Bytes that a PNG's text or colour profile may have when unpacked: Pillow's limit, for which it refuses the file."""

LONGEST_XMP = 1 << 24
"""Bytes of an XMP block that are unpacked all the same: the orientation may be in it."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp"
_LEAST_DIFFERENCE = 2.0
"""Mean levels of 255 by which a row has to change when other data follow the file's end, to count as not determined by
the file."""


def without_long_texts(png: bytes) -> bytes:
    """A PNG without the texts and profiles that are too long for Pillow; a long XMP block is kept, unpacked."""
    kept = [_SIGNATURE]
    for kind, body, chunk in _chunks(png):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") and _unpacked_length(kind, body) > LONGEST_TEXT:
            xmp = _plain_xmp(body) if kind == b"iTXt" else None
            if xmp is not None:
                kept.append(_chunk(b"iTXt", xmp))
        else:
            kept.append(bytes(chunk))
    return b"".join(kept)


def missing_share(jpeg: bytes, stored: Callable[[bytes], Image.Image]) -> float:
    """The share of a truncated JPEG's rows that its data do not determine, 0 where only the end mark is missing.

    It is decoded twice, with nothing and with noise behind its last byte: the rows that differ are not in the file.

    Args:
        jpeg: The file, without an end mark.
        stored: Decodes a whole file to the image as it is stored, upright or not.
    """
    nothing = stored(jpeg + END_MARK)
    noise = np.random.default_rng(0).integers(0, 255, 1 << 16, dtype=np.uint8).tobytes()  # no byte is 255, a marker's
    other = stored(jpeg + noise + END_MARK)
    if nothing.size != other.size:
        return 1.0
    height = nothing.height
    for top in range(0, height, 16):
        box = (0, top, nothing.width, min(top + 16, height))
        first, second = (np.asarray(image.crop(box), np.int16) for image in (nothing, other))
        changed = np.abs(first - second).reshape(len(first), -1).mean(axis=1) > _LEAST_DIFFERENCE
        if changed.any():
            return (height - top - int(changed.argmax())) / height
    return 0.0


def _chunks(png: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """(type, data, the whole chunk) of each; what is cut off at the end comes as it is."""
    view, at = memoryview(png), len(_SIGNATURE)
    while at < len(png):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        yield bytes(view[at + 4 : at + 8]), view[at + 8 : at + 8 + length], view[at:end]
        at = end


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _unpacked_length(kind: bytes, body: memoryview) -> int:
    """Bytes of a text or profile, `LONGEST_TEXT` + 1 for any that are more."""
    data = bytes(body)
    rest = data.partition(b"\0")[2]
    if kind == b"tEXt":
        return len(rest)
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return len(rest)
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    return len(_unpacked(rest, LONGEST_TEXT + 1))


def _plain_xmp(body: memoryview) -> bytes | None:
    """The body of a packed XMP text, unpacked; None for other texts, and for one that is too long even so."""
    keyword, _, rest = bytes(body).partition(b"\0")
    if keyword != _XMP:
        return None
    language, _, rest_behind = rest[2:].partition(b"\0")
    translated, _, packed = rest_behind.partition(b"\0")
    text = _unpacked(packed, LONGEST_XMP + 1) if rest[:1] == b"\1" else packed
    if len(text) > LONGEST_XMP:
        return None
    return _XMP + b"\0\0\0" + language + b"\0" + translated + b"\0" + text


def _unpacked(packed: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""
