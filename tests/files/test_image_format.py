"""Formats by first bytes, and which package reads them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bt_cli.files.image_format import EXTRA, HEAD, READERS, has_reader, image_format, lacks_reader
from bt_cli.files.plain_file import is_plain, read_head

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "DDS", "AVIF", "HEIF", "JXL"]
)
def test_what_pillow_writes_is_known(format: str) -> None:
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if format == "JXL":
        pytest.importorskip("pillow_jxl")
    buffer = io.BytesIO()
    try:
        Image.new("RGB", (64, 64)).save(buffer, format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {format}")
    names = {"PPM": "PNM", "JPEG2000": "JPEG 2000", "HEIF": "HEIC", "JXL": "JPEG XL"}
    assert image_format(buffer.getvalue()[:HEAD]) == names.get(format, format)


@pytest.mark.parametrize(
    ("head", "suffix", "expected"),
    [
        (b"II*\0\x08\0\0\0", "", "TIFF"),
        (b"II*\0\x08\0\0\0", ".nef", "RAW"),
        (b"II*\0\x10\0\0\0CR\2\0", "", "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "", "RAW"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", ".cr3", "RAW"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "", None),  # a film
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "", "AVIF"),
        (b"RIFF\0\0\0\0WAVEfmt ", "", None),
        (b"BMs are not images", "", None),
        (b"P5 is a name", "", None),
        (b"P6\n8 8\n255\n", "", "PNM"),
        (b"<svg xmlns=", ".svg", None),
        (b"", "", None),
    ],
)
def test_first_bytes(head: bytes, suffix: str, expected: str | None) -> None:
    assert image_format(head, suffix) == expected


@given(st.binary(max_size=HEAD), st.sampled_from(["", ".dng", ".jpg"]))
def test_any_bytes_are_a_known_format_or_none(head: bytes, suffix: str) -> None:
    assert image_format(head, suffix) in {
        None, "JPEG", "PNG", "GIF", "PSD", "QOI", "DDS", "JPEG 2000", "JPEG XL", "RAW", "TIFF", "XPM", "WEBP", "BMP",
        "PNM", "AVIF", "HEIC",
    }  # fmt: skip


def test_a_format_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert not has_reader("HEIC")
    assert lacks_reader(path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    assert not lacks_reader(path)
    assert not lacks_reader(tmp_path / "gone")


def test_the_extra_is_one_that_this_project_has() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name, _, extra = EXTRA.rstrip("]").partition("[")
    assert name == project["name"]
    packages = " ".join(project["optional-dependencies"][extra]).replace("-", "_")
    assert all(package in packages for package in READERS.values())


def test_only_plain_files_have_a_head(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_head(tmp_path / "a", 4) == b"0123"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "gone", "/dev/zero", "a\0b"):
        assert read_head(path, 4) == b"", path
    if os.path.ismount("/proc"):
        assert not is_plain(os.stat("/proc/self/status"))
        assert read_head("/proc/self/status", 4) == b""
