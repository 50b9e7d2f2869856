"""Every kind of file that people keep among their pictures, and every way it can be broken."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dng_file import dng
from hypothesis import given, settings
from hypothesis import strategies as st
from permissions import bound_by_permissions
from PIL import Image, ImageOps, features

from bt_cli.errors import BadConfig, UnreadableImage
from bt_cli.preprocessing.image_file import decode_image, open_image, pixel_limit, read_image_file

RNG = np.random.default_rng(7)
PHOTO = np.kron(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))  # 48 x 64 x 3


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(source: object) -> np.ndarray:
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP", "GIF"])
def test_rgb_survives_every_lossless_format(format: str) -> None:
    image = Image.fromarray(PHOTO)
    data = encoded(image, format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_array_equal(pixels(data), PHOTO)


def test_the_four_kinds_of_source_agree(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path), PHOTO):
        np.testing.assert_array_equal(pixels(source), PHOTO)


def test_threads_may_open_one_lazy_picture(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(3).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            for picture in threads.map(open_image, [Image.open(path)] * 8):
                np.testing.assert_array_equal(np.asarray(picture), noise)


def test_an_rgb_image_is_not_copied() -> None:
    image = Image.fromarray(PHOTO)
    assert open_image(image) is image


@pytest.mark.parametrize(
    ("mode", "array", "expected"),
    [
        ("L", [[0, 100], [200, 255]], [[0, 100], [200, 255]]),
        ("I;16", [[0, 257], [25_700, 65_535]], [[0, 1], [100, 255]]),
        ("I;16", [[128, 129], [385, 65_535]], [[0, 1], [1, 255]]),  # rounded, not cut off
        ("I;16", [[0, 1], [100, 255]], [[0, 1], [100, 255]]),  # 8, 10, 12 and 14 bits in 16
        ("I;16", [[0, 512], [2, 1023]], [[0, 128], [0, 255]]),
        ("I;16", [[0, 2048], [256, 4095]], [[0, 128], [16, 255]]),
        ("I;16", [[0, 4096], [8192, 16_383]], [[0, 64], [128, 255]]),
        ("I;16", [[0, 4096], [8192, 16_384]], [[0, 16], [32, 64]]),
        ("I;16", [[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ("I", [[0, 2048], [256, 4095]], [[0, 128], [16, 255]]),
        ("I", [[0, 257], [25_700, 65_535]], [[0, 1], [100, 255]]),
        ("I", [[0, 1], [100, 255]], [[0, 1], [100, 255]]),
        ("I", [[-1000, 0], [500, 1000]], [[0, 128], [191, 255]]),
        ("F", [[0.0, 0.2], [0.5, 1.0]], [[0, 51], [128, 255]]),
        ("F", [[0.0, 1.5], [100.0, 255.0]], [[0, 2], [100, 255]]),
        ("F", [[-1.0, 0.0], [1.0, 3.0]], [[0, 64], [128, 255]]),
        ("F", [[np.nan, -np.inf], [0.0, np.inf]], [[0, 0], [0, 255]]),
        ("F", [[np.nan, np.nan], [np.nan, np.nan]], [[0, 0], [0, 0]]),
        ("F", [[900.0, 900.0], [900.0, 900.0]], [[0, 0], [0, 0]]),
    ],
)
def test_grey_of_any_depth_spans_black_to_white(mode: str, array: list, expected: list) -> None:
    dtype = {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    image = Image.fromarray(np.array(array, dtype))
    assert image.mode == mode
    np.testing.assert_array_equal(pixels(image), np.repeat(np.array(expected, np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_through_a_file(format: str) -> None:
    image = Image.fromarray(np.array([[0, 32_896, 65_535]], np.uint16))
    np.testing.assert_array_equal(pixels(encoded(image, format))[0, :, 0], [0, 128, 255])


def test_big_endian_sixteen_bits() -> None:
    image = Image.frombytes("I;16B", (3, 1), np.array([0, 25_700, 65_535], ">u2").tobytes())
    np.testing.assert_array_equal(pixels(image)[0, :, 1], [0, 100, 255])


def test_one_bit() -> None:
    bits = np.array([[True, False, True]])
    expected = np.repeat(bits.astype(np.uint8)[..., None] * 255, 3, axis=2)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(bits), "PNG")), expected)


def test_the_transparent_level_of_16_bits_is_laid_on_white() -> None:
    grey = np.array([[0, 1000], [40_000, 40_001]], np.uint16)
    data = encoded(Image.fromarray(grey), "PNG")
    body = b"tRNS" + (40_000).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    before = data.index(b"IDAT") - 4
    found = pixels(data[:before] + chunk + data[before:])
    np.testing.assert_array_equal(found[..., 0], [[0, 4], [255, 156]])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    rgba = Image.fromarray(np.array([[[40, 40, 40, 255], [40, 40, 40, 0], [40, 40, 40, 102]]], np.uint8))
    image = {"La": lambda: rgba.convert("LA").convert("La"), "PA": lambda: rgba.convert("P").convert("PA")}.get(
        mode, lambda: rgba.convert(mode)
    )()
    if mode == "PA":  # Pillow's palette drops the alpha band on the way
        image.putalpha(rgba.getchannel("A"))
    found = pixels(image)[0, :, 0].astype(int)
    assert abs(found[0] - 40) <= 1
    assert found[1] == 255
    assert abs(found[2] - (0.4 * 40 + 0.6 * 255)) <= 2


@pytest.mark.parametrize(("mode", "key"), [("P", 1), ("L", 7), ("RGB", (9, 9, 9))])
def test_a_transparent_colour_is_white(mode: str, key: object) -> None:
    image = Image.new(mode, (2, 1), key)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9, 200, 100, 50])
    image.putpixel((1, 0), {"P": 2, "L": 50, "RGB": (200, 100, 50)}[mode])
    found = pixels(encoded(image, "PNG", transparency=key))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == ([50, 50, 50] if mode == "L" else [200, 100, 50])


def test_cmyk_and_ycbcr_jpegs() -> None:
    red = Image.new("RGB", (16, 16), (220, 20, 30))
    for mode in ("CMYK", "YCbCr", "RGB"):
        found = pixels(encoded(red.convert(mode), "JPEG", quality=100)).reshape(-1, 3).mean(axis=0)
        assert np.abs(found - [220, 20, 30]).max() < 4, mode


def test_lab_and_hsv() -> None:
    hsv = Image.new("RGB", (4, 4), (220, 20, 30)).convert("HSV")
    assert np.abs(pixels(hsv)[0, 0].astype(int) - [220, 20, 30]).max() <= 6
    lab = Image.new("LAB", (4, 4), (128, 128, 128))
    grey = pixels(lab)[0, 0].astype(int)
    assert grey.max() - grey.min() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation: int, format: str) -> None:
    image = Image.fromarray(PHOTO)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format, {})
    data = encoded(image, format, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    found = pixels(data)
    shape = (48, 64) if orientation <= 4 else (64, 48)
    assert found.shape == (*shape, 3)
    assert decode_image(data)[1:3] == (shape[1], shape[0])
    np.testing.assert_array_equal(pixels(open_image(data)), found)  # an upright picture is not turned again
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff", b"Exif\x00\x00garbage!"]
)
def test_broken_exif_is_no_reason_to_lose_the_picture(exif: bytes) -> None:
    assert pixels(encoded(Image.fromarray(PHOTO), "JPEG", exif=exif)).shape == (48, 64, 3)


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(PHOTO), "PNG", exif=exif)), PHOTO)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(format: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    data = encoded(
        frames[0], format, save_all=True, append_images=frames[1:], **({"lossless": True} if format == "WEBP" else {})
    )
    assert getattr(Image.open(io.BytesIO(data)), "n_frames") == 3  # noqa: B009
    assert pixels(data)[3, 4].tolist() == [250, 0, 0]


def test_heic() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    image = Image.new("RGB", (64, 64), (200, 40, 60))
    found = pixels(encoded(image, "HEIF", quality=95))
    assert found.shape == (64, 64, 3)
    assert np.abs(found[32, 32].astype(int) - [200, 40, 60]).max() < 6


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_with_pillow_alone() -> None:
    found = pixels(encoded(Image.new("RGB", (64, 64), (200, 40, 60)), "AVIF", quality=95))
    assert np.abs(found[32, 32].astype(int) - [200, 40, 60]).max() < 6


def test_heic_needs_no_registering_by_the_user(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = tmp_path / "photo.heic"
    Image.new("RGB", (64, 64), (200, 40, 60)).save(path, "HEIF", quality=95)
    code = f"from bt_cli.preprocessing.image_file import open_image; print(open_image({str(path)!r}).size)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "(64, 64)\n"


def test_heic_without_the_extra_names_it(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = tmp_path / "photo.heic"
    Image.new("RGB", (64, 64)).save(path, "HEIF")
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from bt_cli.preprocessing.image_file import open_image\n"
        f"try: open_image({str(path)!r})\nexcept Exception as error: print(type(error).__name__, error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out == f"UnreadableImage {path}: HEIC needs an extra: pip install 'bridgetower[images]'\n"


def refusal(source: object) -> str:
    with pytest.raises(UnreadableImage) as caught:
        open_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_image(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture at all, whatever its name says")
    empty = tmp_path / "empty.png"
    empty.touch()
    assert refusal(text) == f"{text}: not an image that can be read"
    assert refusal(empty) == f"{empty}: the file is empty"
    assert refusal(tmp_path) == f"{tmp_path}: a folder, not an image"
    assert refusal(tmp_path / "gone.jpg") == f"{tmp_path}/gone.jpg: no such file"
    assert refusal(text / "below") == f"{text}/below: no such file"
    assert refusal("/dev/null") == "/dev/null: not a regular file"
    assert refusal(b"") == "image: the file is empty"
    assert refusal(17) == "image: int is neither a path nor an image"
    assert refusal("a\0b.jpg").startswith("a\\x00b.jpg: ")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 (4, 4, 3)"),
        (np.zeros((3, 4, 5), np.uint8), "uint8 (3, 4, 5)"),
        (np.zeros((0, 4), np.uint8), "uint8 (0, 4)"),
    ],
)
def test_arrays_of_another_kind(array: np.ndarray, said: str) -> None:
    assert refusal(array) == f"array: {said} is no image; uint8 (H, W), (H, W, 3) or (H, W, 4) is"


def test_a_picture_without_pixels() -> None:
    assert refusal(Image.new("RGB", (0, 5))) == "image: the image has no pixels"


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(PHOTO).save(path)
    path.chmod(0)
    with bound_by_permissions():
        assert refusal(path) == f"{path}: not permitted to read it"


def test_permission_reads_well_whoever_runs_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("bt_cli.preprocessing.image_file.os.stat", refuse)
    assert refusal(tmp_path / "a.png") == f"{tmp_path}/a.png: not permitted to read it"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_gives_one_line(format: str, share: float, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), format)
    if format == "JPEG" and share == 0.9:
        share = 0.7  # a tenth may be missing
    path = tmp_path / "half"
    path.write_bytes(data[: int(len(data) * share)])
    assert refusal(path).startswith(f"{path}: ")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP"]), st.data())
def test_a_damaged_file_is_a_picture_or_one_line(format: str, data: st.DataObject) -> None:
    content = bytearray(encoded(Image.fromarray(PHOTO), format))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    said = ""
    try:
        assert open_image(bytes(content)).mode == "RGB"
    except UnreadableImage as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"two\nlines.png", r"two\nlines.png"), (b"caf\xe9.png", r"caf\xe9.png"), (b"\x1b[31m.png", r"\x1b[31m.png")],
)
def test_strange_names(name: bytes, shown: str, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(encoded(Image.fromarray(PHOTO), "PNG"))
    np.testing.assert_array_equal(pixels(os.fsdecode(path)), PHOTO)
    with open(path, "wb") as file:
        file.write(b"no picture")
    assert refusal(os.fsdecode(path)) == f"{tmp_path}/{shown}: not an image that can be read"


def bomb(side: int) -> bytes:
    """A PNG header that promises side x side pixels."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def test_a_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(bomb(100_000)) == ("image: more pixels than the 178,956,970 allowed; BT_MAX_PIXELS raises the limit")


def test_the_pixel_limit_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encoded(Image.fromarray(PHOTO), "PNG")
    monkeypatch.setenv("BT_MAX_PIXELS", "3071")
    assert refusal(photo) == "image: more pixels than the 3,071 allowed; BT_MAX_PIXELS raises the limit"
    monkeypatch.setenv("BT_MAX_PIXELS", "3072")
    assert pixels(photo).shape == (48, 64, 3)
    monkeypatch.setenv("BT_MAX_PIXELS", "0")
    assert pixel_limit() is None
    assert "broken image" in refusal(bomb(20_000))  # no limit: Pillow sets out to decode it
    monkeypatch.setenv("BT_MAX_PIXELS", "many")
    with pytest.raises(BadConfig, match="BT_MAX_PIXELS=many: a whole number of pixels is needed, 0 for no limit"):
        open_image(photo)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = encoded(Image.fromarray(PHOTO), "PNG")
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    np.testing.assert_array_equal(pixels(pipe), PHOTO)
    writer.join()


def test_reading_bytes_fails_like_opening(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    assert read_image_file(path) == path.read_bytes()
    with pytest.raises(UnreadableImage, match="no such file"):
        read_image_file(tmp_path / "gone.png")


def test_a_huge_file_that_is_no_image_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "film.jpg"
    with open(path, "wb") as file:
        file.write(b"film")
        file.truncate(20 << 30)  # sparse
    with pytest.raises(UnreadableImage, match="not an image"):
        read_image_file(path)


@pytest.mark.parametrize(
    ("size", "draft", "expected"),
    [
        ((1600, 1200), None, (1600, 1200)),
        ((1600, 1200), 600, (800, 600)),
        ((1600, 1200), 601, (1600, 1200)),
        ((1600, 1200), 288, (400, 300)),
        ((1600, 1200), 100, (200, 150)),
        ((1599, 1199), 300, (800, 600)),
        ((1599, 1199), 299, (400, 300)),
        ((1201, 1601), 288, (301, 401)),
        ((4000, 500), 288, (4000, 500)),
        ((64, 48), 288, (64, 48)),
    ],
)
def test_draft_never_decodes_below_what_is_needed(size: tuple, draft: int | None, expected: tuple) -> None:
    data = encoded(Image.new("RGB", size, (10, 200, 30)), "JPEG")
    assert open_image(data, draft=draft).size == expected


def test_draft_heeds_orientation_and_other_formats() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = encoded(Image.new("RGB", (1600, 1200)), "JPEG", exif=exif)
    assert open_image(tall, draft=300).size == (300, 400)
    pair = Image.new("RGB", (1600, 1200))
    mpo = encoded(pair, "MPO", save_all=True, append_images=[pair])  # two views, as some cameras write
    assert Image.open(io.BytesIO(mpo)).format == "MPO"
    assert open_image(mpo, draft=300).size == (400, 300)
    for mode in ("L", "CMYK"):
        assert open_image(encoded(pair.convert(mode), "JPEG", progressive=True), draft=300).size == (400, 300)
    assert open_image(encoded(Image.new("RGB", (1600, 1200)), "PNG"), draft=300).size == (1600, 1200)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_draft_tells_the_whole_size_and_what_it_covers(orientation: int) -> None:
    """401 columns at a quarter are 100.25 of 101 pixels; the odd rest goes where turning takes the right edge."""
    image = Image.new("RGB", (401, 300), (250, 250, 250))
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = decode_image(encoded(image, "JPEG", exif=exif))
    draft = decode_image(encoded(image, "JPEG", exif=exif), draft=75)
    assert (draft.width, draft.height) == (whole.width, whole.height) == whole.image.size
    assert whole.box == (0, 0, whole.width, whole.height)
    boxes = {
        1: (0, 0, 100.25, 75),
        2: (0.75, 0, 101, 75),
        3: (0.75, 0, 101, 75),
        4: (0, 0, 100.25, 75),
        5: (0, 0, 75, 100.25),
        6: (0, 0, 75, 100.25),
        7: (0, 0.75, 75, 101),
        8: (0, 0.75, 75, 101),
    }
    assert draft.box == boxes[orientation]
    assert draft.image.size == ((101, 75) if orientation <= 4 else (75, 101))


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/>%s</x:xmpmeta>'


@pytest.mark.parametrize("place", ["before the pixels", "behind them"])
@pytest.mark.parametrize(
    ("kind", "body", "turned"),
    [
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"node " * 300_000), False),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"node " * 300_000), False),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)), False),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP % (b"<a/>" * 400_000)), True),
    ],
)
def test_a_png_with_long_metadata_is_a_picture(kind: bytes, body: bytes, turned: bool, place: str) -> None:
    plain = encoded(Image.fromarray(PHOTO), "PNG")
    at = plain.index(b"IDAT") - 4 if place == "before the pixels" else len(plain) - 12
    if place == "behind them" and kind in (b"iCCP",):
        pytest.skip("a profile comes before the pixels")
    data = plain[:at] + chunk(kind, body) + plain[at:]
    expected = np.rot90(PHOTO, -1) if turned else PHOTO
    np.testing.assert_array_equal(pixels(data), expected)


def test_a_png_whose_xmp_is_beyond_all_bounds_is_a_picture_still() -> None:
    plain = encoded(Image.fromarray(PHOTO), "PNG")
    at = plain.index(b"IDAT") - 4
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(40 << 20))
    np.testing.assert_array_equal(pixels(plain[:at] + chunk(b"iTXt", body) + plain[at:]), PHOTO)


def natural(height: int = 240, width: int = 320) -> np.ndarray:
    """Something with detail in every row."""
    return np.asarray(Image.fromarray(PHOTO).resize((width, height))) ^ RNG.integers(
        0, 32, (height, width, 1), np.uint8
    )


def test_a_jpeg_without_its_end_mark_is_whole() -> None:
    data = encoded(Image.fromarray(natural()), "JPEG", quality=90)
    assert data.endswith(b"\xff\xd9")
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        data = encoded(Image.fromarray(natural()), "JPEG", quality=90, **options)
        found = decode_image(data[:-2])
        assert found.missing == 0, options
        np.testing.assert_array_equal(np.asarray(found.image), pixels(data))


@pytest.mark.parametrize("share", [0.99, 0.9, 0.8])
@pytest.mark.parametrize("draft", [None, 60])
def test_a_jpeg_that_lacks_some_last_rows_tells_how_many(share: float, draft: int | None) -> None:
    data = encoded(Image.fromarray(natural(480, 640)), "JPEG", quality=90)
    found = decode_image(data[: int(len(data) * share)], draft=draft)
    assert abs(found.missing - (1 - share)) < 0.04
    rows = int(found.image.height * (1 - found.missing)) - 1
    whole = np.asarray(open_image(data, draft=draft))
    assert np.abs(np.asarray(found.image).astype(int)[: rows - 16] - whole[: rows - 16]).max() <= 1


def test_a_jpeg_that_lacks_more_is_refused() -> None:
    data = encoded(Image.fromarray(natural(480, 640)), "JPEG", quality=90)
    said = refusal(data[: len(data) * 6 // 10])
    assert re.fullmatch(
        r"image: broken image: truncated, the last (39|4\d)% of its rows are missing, and at most 25% may be", said
    )


def test_a_tiff_says_what_white_is() -> None:
    grey = np.array([[0, 1000, 2000]], np.uint16)
    data = encoded(Image.fromarray(grey), "TIFF", tiffinfo={281: 2000})
    assert pixels(data)[0, :, 0].tolist() == [0, 128, 255]
    data = encoded(Image.fromarray(grey), "TIFF", tiffinfo={281: 1000})  # it can't be: values go beyond
    assert pixels(data)[0, :, 0].tolist() == [0, 62, 125]


def test_broken_tiffs_leave_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "group4", "packbits"):
        image = Image.fromarray(PHOTO)
        content = bytearray(
            encoded(image.convert("1") if compression == "group4" else image, "TIFF", compression=compression)
        )
        for at in range(8, len(content) // 2, 5):
            content[at] ^= 0x55
        with contextlib.suppress(UnreadableImage):
            open_image(bytes(content))
        with contextlib.suppress(UnreadableImage):
            open_image(bytes(content[: len(content) // 2]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_in_strips_is_transparency_at_once(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = Image.fromarray(RNG.integers(0, 256, (37, 23, 4), dtype=np.uint8))
    image = rgba.quantize(17) if mode == "P" else rgba.convert(mode)
    if mode == "P":
        data = encoded(image, "PNG")
        image = Image.open(io.BytesIO(data))
        image.load()
    at_once = pixels(image.copy())
    monkeypatch.setattr("bt_cli.preprocessing.rgb_image.STRIP_PIXELS", 60)
    np.testing.assert_array_equal(pixels(image), at_once)


def test_memory_is_asked_for_before_a_pixel_is_read() -> None:
    asked: list[int] = []

    class Refused(Exception):
        pass

    def reserve(size: int) -> None:
        asked.append(size)
        raise Refused

    for image, format, least, most in [
        (Image.new("RGB", (1000, 500)), "PNG", 4, 4),
        (Image.new("RGBA", (1000, 500)), "PNG", 8, 8),
        (Image.new("I;16", (1000, 500)), "PNG", 10, 20),
        (Image.new("RGB", (1000, 500)), "WEBP", 16, 16),
    ]:
        with pytest.raises(UnreadableImage):
            decode_image(encoded(image, format), reserve=reserve)
        assert least * 500_000 <= asked.pop() <= most * 500_000, (image.mode, format)
    progressive = encoded(Image.new("RGB", (1600, 1200)), "JPEG", progressive=True)
    with pytest.raises(UnreadableImage):
        decode_image(progressive, draft=200, reserve=reserve)
    assert asked == [400 * 300 * 4 + 1600 * 1200 * 6]


def test_jpeg_xl_needs_no_registering_by_the_user(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    path = tmp_path / "photo"
    Image.new("RGB", (64, 48), (200, 40, 60)).save(path, "JXL", lossless=True)
    code = f"from bt_cli.preprocessing.image_file import open_image; print(open_image({str(path)!r}).getpixel((9, 9)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "(200, 40, 60)\n"


def test_what_a_decoder_tells_its_builders_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a")
    assert refusal(tmp_path / "a.jxl") == f"{tmp_path}/a.jxl: broken image: Generic Error"


def test_a_kernels_file_and_an_empty_one_are_not_waited_for(tmp_path: Path) -> None:
    if os.path.exists("/proc/kmsg"):
        assert refusal("/proc/kmsg") == "/proc/kmsg: not a regular file"
    if os.path.exists("/proc/self/status"):
        os.symlink("/proc/self/status", tmp_path / "a.png")
        assert refusal(tmp_path / "a.png") == f"{tmp_path}/a.png: not a regular file"


MOSAIC = np.full((480, 640), 1000, np.uint16)


def test_a_raw_file_is_its_preview() -> None:
    pytest.importorskip("rawpy")
    content = dng(Image.new("RGB", (600, 400), (200, 40, 60)), MOSAIC)
    assert Image.open(io.BytesIO(content)).format == "TIFF", "Pillow alone would take what is in front"
    found = decode_image(content)
    assert (found.width, found.height) == (600, 400)
    assert np.abs(np.array(found.image.getpixel((300, 200))) - [200, 40, 60]).max() < 6


@pytest.mark.parametrize(("orientation", "size"), [(3, (600, 400)), (6, (400, 600)), (8, (400, 600))])
def test_a_raw_file_turns_its_preview(orientation: int, size: tuple[int, int]) -> None:
    pytest.importorskip("rawpy")
    preview = Image.new("RGB", (600, 400))
    preview.paste((250, 250, 250), (0, 0, 300, 200))  # bright at the top left
    found = decode_image(dng(preview, MOSAIC, orientation))
    assert (found.width, found.height) == size
    grey = np.asarray(found.image.convert("L").resize((2, 2), Image.Resampling.BOX))
    assert np.unravel_index(grey.argmax(), (2, 2)) == {3: (1, 1), 6: (0, 1), 8: (1, 0)}[orientation]


def test_a_raw_file_with_a_thumbnail_alone_is_developed() -> None:
    pytest.importorskip("rawpy")
    assert open_image(dng(Image.new("RGB", (160, 120)), MOSAIC)).size == (320, 240)


def test_a_raw_file_without_the_extra_names_it(tmp_path: Path) -> None:
    path = tmp_path / "photo.dng"
    path.write_bytes(dng(Image.new("RGB", (600, 400)), MOSAIC))
    code = (
        "import sys; sys.modules['rawpy'] = None\n"
        "from bt_cli.preprocessing.image_file import open_image\n"
        f"try: open_image({str(path)!r})\nexcept Exception as error: print(type(error).__name__, error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out == f"UnreadableImage {path}: RAW needs an extra: pip install 'bridgetower[images]'\n"


def test_a_tiff_that_only_looks_raw_is_read_as_what_it_is() -> None:
    pytest.importorskip("rawpy")
    data = encoded(Image.fromarray(PHOTO), "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    np.testing.assert_array_equal(pixels(data), PHOTO)
