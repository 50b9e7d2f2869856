"""A camera's raw file made by hand: DNG 1.4, a JPEG preview in front of a mosaic of 16-bit samples."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

Entries = list[tuple[int, int, list]]

_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I"}


def dng(preview: Image.Image, mosaic: np.ndarray, orientation: int = 1) -> bytes:
    """The file; `mosaic` is (height, width) uint16, red first."""
    buffer = io.BytesIO()
    preview.save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue()
    raw = mosaic.astype("<u2").tobytes()
    # Twice: the lengths of the directories are known only once they are there.
    first, second = _directories(preview, mosaic, len(jpeg), orientation, (0, 0, 0))
    sub = 8 + len(_directory(first, 8))
    at_jpeg = sub + len(_directory(second, sub))
    at_raw = at_jpeg + len(jpeg) + len(jpeg) % 2
    first, second = _directories(preview, mosaic, len(jpeg), orientation, (sub, at_jpeg, at_raw))
    head = b"II*\0" + struct.pack("<I", 8)
    return head + _directory(first, 8) + _directory(second, sub) + jpeg + b"\0" * (len(jpeg) % 2) + raw


def _directories(
    preview: Image.Image, mosaic: np.ndarray, length: int, orientation: int, places: tuple[int, int, int]
) -> tuple[Entries, Entries]:
    sub, at_jpeg, at_raw = places
    height, width = mosaic.shape
    identity: list[Any] = [(int(row == column), 1) for row in range(3) for column in range(3)]
    first: Entries = [
        *[(254, 4, [1]), (256, 4, [preview.width]), (257, 4, [preview.height]), (258, 3, [8, 8, 8]), (259, 3, [7])],
        *[(262, 3, [6]), (271, 2, list(b"bt\0")), (272, 2, list(b"test\0")), (273, 4, [at_jpeg])],
        *[(274, 3, [orientation]), (277, 3, [3]), (278, 4, [preview.height]), (279, 4, [length]), (330, 4, [sub])],
        *[(50706, 1, [1, 4, 0, 0]), (50707, 1, [1, 1, 0, 0]), (50708, 2, list(b"bt test\0"))],
        (50721, 10, identity),
        (50728, 5, [(1, 1)] * 3),
        (50778, 3, [21]),
    ]
    second: Entries = [
        *[(254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]), (262, 3, [32803])],
        *[(273, 4, [at_raw]), (277, 3, [1]), (278, 4, [height]), (279, 4, [mosaic.size * 2])],
        *[(33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50717, 4, [4095])],
    ]
    return first, second


def _directory(entries: Entries, at: int) -> bytes:
    fields, data, behind = struct.pack("<H", len(entries)), b"", at + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        if kind in (5, 10):
            packed = b"".join(struct.pack("<II" if kind == 5 else "<ii", *pair) for pair in values)
        else:
            packed = struct.pack(f"<{len(values)}{_LETTERS[kind]}", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", behind + len(data))
        if len(packed) > 4:
            data += packed + b"\0" * (len(packed) % 2)
        fields += struct.pack("<HHI", tag, kind, len(values)) + place
    return fields + struct.pack("<I", 0) + data
