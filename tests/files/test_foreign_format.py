"""A file that is no image says what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.errors import UnreadableImage
from bt_cli.files.foreign_format import foreign_format
from bt_cli.files.image_format import HEAD
from bt_cli.preprocessing.image_file import decode_image


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.jpg", b"x")
    return out.getvalue()


def table(write) -> bytes:
    out = io.BytesIO()
    write(pa.table({"pixels": [b"x"]}), out)
    return out.getvalue()


def array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bz2.compress(b"x"), "packed by bzip2; unpack it, or pack its files as .tar or .tar.gz"),
        (lzma.compress(b"x"), "packed by xz; unpack it, or pack its files as .tar or .tar.gz"),
        (gzip.compress(b"x"), "packed by gzip; unpack it, or call a packed tar file .tar.gz"),
        (zipped(), "a zip archive; unpack it, or pack its files as .tar or .tar.gz"),
        (
            table(pyarrow.parquet.write_table),
            "a Parquet file without a column of images; a column called image, img, jpg, png or bytes, binary or a "
            "struct, is read",
        ),
        (
            table(lambda rows, out: pyarrow.feather.write_feather(rows, out, compression="uncompressed")),
            "an Arrow file without a column of images; a column called image, img, jpg, png or bytes, binary or a "
            "struct, is read",
        ),
        (array(), "a NumPy array; write its images as files"),
        (b"%PDF-1.7\n", "a PDF document; write its pages as images"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a film; write the images wanted as files"),
        (b"<!DOCTYPE html>\n<title>404</title>", "a web page"),
        (b"\xef\xbb\xbf\n  <HTML lang=en>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing; write it as PNG"),
        (b'<?xml version="1.0"?>\n<svg/>', "an SVG drawing; write it as PNG"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
            "a pointer of Git LFS; `git lfs pull` fetches the file that it stands for",
        ),
    ],
    ids=range(14),
)
def test_what_it_is_and_the_way_out(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as raised:
        decode_image(str(path))
    assert str(raised.value) == f"{path}: not an image that can be read: {words}"


@given(st.binary(max_size=2 * HEAD))
def test_any_bytes_are_something_or_nothing(head: bytes) -> None:
    assert foreign_format(head) is None or "\n" not in str(foreign_format(head))


def test_bytes_that_say_nothing_stay_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"junk")
    with pytest.raises(UnreadableImage, match="not an image that can be read$"):
        decode_image(str(tmp_path / "photo.jpg"))
