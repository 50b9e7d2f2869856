"""What a file is that is taken for an image and is none, and what to do about it: told by its first bytes."""

from __future__ import annotations

_PACKED = "unpack it, or pack its files as .tar or .tar.gz"
_TABLE = (
    "{} file without a column of images; a column called image, img, jpg, png or bytes, binary or a struct, is read"
)

# fmt: off
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS; `git lfs pull` fetches the file that it stands for"),
    (b"BZh", f"packed by bzip2; {_PACKED}"),
    (b"\xfd7zXZ\0", f"packed by xz; {_PACKED}"),
    (b"\x28\xb5\x2f\xfd", f"packed by zstd; {_PACKED}"),
    (b"\x1f\x8b", "packed by gzip; unpack it, or call a packed tar file .tar.gz"),
    (b"PK\x03\x04", f"a zip archive; {_PACKED}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_PACKED}"),
    (b"Rar!\x1a\x07", f"a rar archive; {_PACKED}"),
    (b"PAR1", _TABLE.format("a Parquet")),
    (b"ARROW1", _TABLE.format("an Arrow")),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file; write its images as files, or as a Parquet column of their bytes"),
    (b"\x93NUMPY", "a NumPy array; write its images as files"),
    (b"%PDF", "a PDF document; write its pages as images"),
    (b"%!PS", "a PostScript file; write its pages as images"),
    (b"\x1a\x45\xdf\xa3", "a film; write the images wanted as files"),
    (b"OggS", "sound or a film"),
    (b"ID3", "sound"),
)
# fmt: on
_MARKUP = ((b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<svg", "an SVG drawing; write it as PNG"))


def foreign_format(head: bytes) -> str | None:
    """What a file is that begins with `head` (64 bytes or more, or the whole file) and that no reader of images knows:
    words that go on after "not an image that can be read: ". None where its bytes say nothing."""
    for signature, words in _SIGNATURES:
        if head.startswith(signature):
            return words
    if head[4:8] == b"ftyp":
        return "a film; write the images wanted as files"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<?xml"):
        text = text.partition(b"?>")[2].lstrip()
    return next((words for beginning, words in _MARKUP if text.startswith(beginning)), None)
