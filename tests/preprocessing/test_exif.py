"""What files say of the shot, and what they say that is not believed."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dng_file import dng
from hypothesis import given
from hypothesis import strategies as st
from photographs import EXIF, GPS, MAKE, exif_of, jpeg, photograph
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.preprocessing.image_file import decode_image, read_photo_facts

NOTHING = PhotoFacts()
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Make="Acme &amp; Sons"
 exif:GPSLatitude="48,12.5N"
 exif:GPSLongitude='16,22,12.0W'><exif:DateTimeOriginal>2024-06-03T14:05:09.25+02:00</exif:DateTimeOriginal>
<tiff:Model>Box 2</tiff:Model></rdf:Description></rdf:RDF></x:xmpmeta>"""


def facts(exif: Image.Exif | bytes, format: str = "JPEG", **options: Any) -> PhotoFacts:
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, format, exif=exif, **options)
    return decode_image(written.getvalue()).facts


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_everything_from_every_format(format: str, tmp_path: Path) -> None:
    exif = exif_of("2024:06:03 14:05:09", "+02:00", "Canon", "Canon EOS 5D", (48.20849, -16.37208), "250").tobytes()
    found = facts(exif, format)
    assert found.taken_text == "2024-06-03T14:05:09.250+02:00"
    assert (found.taken_offset, found.camera) == (120, "Canon EOS 5D")
    assert found.latitude == pytest.approx(48.20849, abs=1e-6)
    assert found.longitude == pytest.approx(-16.37208, abs=1e-6)
    Image.new("RGB", (8, 8)).save(tmp_path / "x", format, exif=exif)
    assert read_photo_facts(tmp_path / "x") == found


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_xmp_where_exif_is_silent(format: str) -> None:
    written = io.BytesIO()
    image = Image.new("RGB", (8, 8))
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        chunk = PngInfo()
        chunk.add_itxt("XML:com.adobe.xmp", XMP)
        image.save(written, format, pnginfo=chunk)
    elif format == "TIFF":
        image.save(written, format, tiffinfo={700: XMP.encode()})
    else:
        image.save(written, format, xmp=XMP.encode())
    found = decode_image(written.getvalue()).facts
    assert (found.taken_text, found.camera) == ("2024-06-03T14:05:09.250+02:00", "Acme & Sons Box 2")
    assert (found.latitude, found.longitude) == (pytest.approx(48 + 12.5 / 60), pytest.approx(-(16 + 22.2 / 60)))


def test_exif_is_believed_before_xmp() -> None:
    assert facts(exif_of("2023:01:02 03:04:05"), xmp=XMP.encode()).taken_text == "2023-01-02T03:04:05"


@pytest.mark.parametrize(
    ("text", "offset", "taken"),
    [
        ("2024:02:29 23:59:59", "", "2024-02-29T23:59:59"),
        ("2024:06:03 14:05:09", "-03:30", "2024-06-03T14:05:09-03:30"),
        ("2024:06:03 14:05:09", "Z", "2024-06-03T14:05:09+00:00"),
        ("2024:06:03 14:05:09", "+99:00", "2024-06-03T14:05:09"),
        ("2024:06:03 14:05:09", "   :  ", "2024-06-03T14:05:09"),
        ("2024-06-03T14:05:09", "", "2024-06-03T14:05:09"),
        ("2024:06:03 14:05", "", "2024-06-03T14:05:00"),
        ("2023:02:29 12:00:00", "", None),
        ("0000:00:00 00:00:00", "", None),
        ("    :  :     :  :  ", "", None),
        ("2024:06:03 24:00:60", "", None),
        ("yesterday", "", None),
    ],
)
def test_times(text: str, offset: str, taken: str | None) -> None:
    assert facts(exif_of(text, offset)).taken_text == taken


def test_the_time_of_a_scan_where_there_is_none_of_the_shot_and_never_that_of_saving() -> None:
    exif = exif_of()
    exif[0x0132] = "2024:01:01 00:00:00"
    assert facts(exif).taken is None
    exif.get_ifd(EXIF)[0x9004] = "1999:12:31 10:00:00"
    assert facts(exif).taken_text == "1999-12-31T10:00:00"


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D Mark IV", "Canon EOS 5D Mark IV"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12 Pro", "Apple iPhone 12 Pro"),
        ("OLYMPUS IMAGING CORP.  ", "E-M5", "OLYMPUS E-M5"),
        ("SONY\0\0", "  DSC-RX100\n", "SONY DSC-RX100"),
        ("Fairphone", "", "Fairphone"),
        ("", "X100V", "X100V"),
        ("Gr\u00fcn", "Ph\u00f6n", "Gr\u00fcn Ph\u00f6n"),
        ("\x1b[31m", "", "[31m"),
        ("Co", "x" * 500, "Co " + "x" * 100),
        (" ", "\0", None),
    ],
)
def test_cameras(make: str, model: str, camera: str | None) -> None:
    exif = Image.Exif()
    exif[MAKE], exif[MAKE + 1] = make.encode(), model.encode()
    assert facts(exif).camera == camera


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (48.0, 12.0, 0.0)},
        {1: "N", 2: (48.0, 12.0, 0.0), 3: "E"},
        {2: (48.0, 12.0, 0.0), 4: (16.0, 0.0, 0.0)},
        {1: "N", 2: (90.0, 0.0, 1.0), 3: "E", 4: (16.0, 0.0, 0.0)},
        {1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (180.0, 1.0, 0.0)},
        {1: "N", 2: (48.0, 61.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)},
        {1: "N", 2: (IFDRational(0, 0), 12.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)},
        {1: "N", 2: (IFDRational(1, 0), 12.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "E", 2: (48.0, 0.0, 0.0), 3: "N", 4: (16.0, 0.0, 0.0)},
    ],
)
def test_places_that_are_none(gps: dict[int, Any]) -> None:
    exif = Image.Exif()
    exif.get_ifd(GPS).update(gps)
    assert facts(exif) == NOTHING


def test_the_ends_of_the_world() -> None:
    found = facts(exif_of(place=(-90.0, 180.0)))
    assert (found.latitude, found.longitude) == (-90.0, 180.0)


@given(st.data())
def test_whatever_is_damaged_nothing_is_raised_and_no_number_is_none(data: st.DataObject) -> None:
    written = bytearray(jpeg(taken="2024:06:03 14:05:09", offset="+02:00", make="A", model="B", place=(48.2, 16.4)))
    begin = written.index(b"Exif")
    for _ in range(data.draw(st.integers(1, 8))):
        written[data.draw(st.integers(begin, begin + 200))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_image(bytes(written)).facts
    assert found.taken_offset is None or abs(found.taken_offset) <= 900
    assert (found.latitude is None) == (found.longitude is None)
    if found.latitude is not None and found.longitude is not None:
        assert -90 <= found.latitude <= 90
        assert -180 <= found.longitude <= 180


def test_heads_alone_are_read_and_files_that_are_none_say_nothing(tmp_path: Path) -> None:
    whole = photograph(tmp_path / "a.jpg", taken="2024:06:03 14:05:09", side=256)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-100])
    assert read_photo_facts(cut).taken_text == "2024-06-03T14:05:09"
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    for name in ("b.jpg", "missing.jpg", "."):
        assert read_photo_facts(tmp_path / name) == NOTHING


def test_a_png_that_has_to_be_decoded_asks_for_its_memory(tmp_path: Path) -> None:
    asked: list[int] = []
    for name, exif in (("plain", None), ("ahead", exif_of(model="X100V").tobytes())):
        Image.new("RGB", (100, 50)).save(tmp_path / name, "PNG", **({"exif": exif} if exif else {}))
        read_photo_facts(tmp_path / name, reserve=asked.append)
    assert asked == [100 * 50 * 4]
    photograph(tmp_path / "a.jpg", side=256)
    read_photo_facts(tmp_path / "a.jpg", reserve=asked.append)
    assert len(asked) == 1


def test_a_turned_picture_keeps_its_facts() -> None:
    exif = exif_of("2024:06:03 14:05:09", model="X")
    exif[0x0112] = 6
    assert facts(exif) == PhotoFacts(facts(exif_of("2024:06:03 14:05:09")).taken, None, "X")


def test_a_raw_file(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    mosaic = np.full((32, 32), 900, np.uint16)
    (tmp_path / "a.dng").write_bytes(dng(Image.new("RGB", (32, 32)), mosaic))
    assert read_photo_facts(tmp_path / "a.dng") == decode_image(tmp_path / "a.dng").facts
