"""Image formats: told by a file's first bytes, and which of them need a package beyond Pillow."""

from __future__ import annotations

import importlib.util
import os
import re

from bt_cli.files.plain_file import read_head

EXTRA = "bridgetower[images]"
"""The extra of this project that brings every reader below, as pip takes it."""

HEAD = 64
"""First bytes of a file, enough for `image_format`."""

# fmt: off
RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})
# fmt: on
"""Suffixes (lower case) of cameras' raw files. Most are TIFF by their first bytes, so that the suffix has to say."""

READERS = {"HEIC": "pillow_heif", "JPEG XL": "pillow_jxl", "RAW": "rawpy"}
"""Format to the package (as it is imported) that reads it."""

HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"8BPS\0\1", "PSD"),
    (b"qoif", "QOI"),
    (b"DDS \x7c\0\0\0", "DDS"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"IIU\0", "RAW"),
    (b"FOVb", "RAW"),
    (b"\0MRM", "RAW"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"/* XPM */", "XPM"),
)
_NETPBM = re.compile(rb"P[1-6]\s+[\d#]")
_DIB_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths of the header behind a BMP file's own 14 bytes


def image_format(head: bytes, suffix: str = "") -> str | None:
    """The format of a file that begins with `head` (`HEAD` bytes, or the whole file), None where it is no image.

    Args:
        head: The first bytes.
        suffix: Of the file's name, lower case; it tells a camera's raw file from other TIFFs.
    """
    if head[4:8] == b"ftyp":
        return _iso_format(head)
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[:2] == b"BM":
        return "BMP" if int.from_bytes(head[14:18], "little") in _DIB_HEADERS else None
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            raw = name == "TIFF" and (suffix in RAW_SUFFIXES or head[8:10] == b"CR")
            return "RAW" if raw else name
    return "PNM" if _NETPBM.match(head) else None


def _iso_format(head: bytes) -> str | None:
    """The format of an ISO base media file: its major brand says, or the brands that it is compatible with."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    if brands[0] == b"crx ":
        return "RAW"
    if any(brand in AVIF_BRANDS for brand in brands):
        return "AVIF"
    if brands[0] == b"jp2 ":
        return "JPEG 2000"
    return "HEIC" if any(brand in HEIC_BRANDS for brand in brands) else None


def has_reader(format: str) -> bool:
    """Whether the package that a format needs is installed; true for formats that need none."""
    package = READERS.get(format)
    return package is None or importlib.util.find_spec(package) is not None


def lacks_reader(path: str | os.PathLike[str], head: bytes | None = None) -> bool:
    """Whether a file, which begins with `head`, is an image of a format whose package is not installed."""
    suffix = os.path.splitext(path)[1].lower()
    name = image_format(read_head(path, HEAD) if head is None else head, os.fsdecode(suffix))
    return name is not None and not has_reader(name)
