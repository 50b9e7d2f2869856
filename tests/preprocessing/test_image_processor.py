"""Pixels, to the bit those of the port's Pillow path; and defined where the port gives up."""

from __future__ import annotations

import functools
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bt_cli.errors import BadConfig
from bt_cli.preprocessing import image_processor
from bt_cli.preprocessing.image_file import open_image
from bt_cli.preprocessing.image_processor import ImageProcessor
from bt_cli.preprocessing.image_settings import CLIP_MEAN, CLIP_STD, ImageSettings


def picture(height: int, width: int, seed: int, content: str = "noise") -> Image.Image:
    """Noise shows a wrong pixel best; ramps and flats are what real pictures are made of."""
    if content == "noise":
        array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    elif content == "ramp":
        rows, columns = np.mgrid[:height, :width]
        array = np.stack([rows, columns, rows + columns + seed], axis=-1).astype(np.uint8)
    else:
        array = np.full((height, width, 3), [seed % 256, 255, 0], np.uint8)
    return Image.fromarray(array)


@pytest.fixture(scope="module")
def port():
    """The port's processor for a size; `crop_size` passed, since the port doesn't let it fall back to `size`."""
    module = pytest.importorskip("transformers.models.bridgetower.image_processing_pil_bridgetower")
    made = {}

    def processor(size: int, **options: object):
        key = (size, json.dumps(options, sort_keys=True))
        if key not in made:
            edges = {"size": {"shortest_edge": size}, "crop_size": {"shortest_edge": size}}
            made[key] = module.BridgeTowerImageProcessorPil(**(edges | options))
        return made[key]

    return processor


CONTENTS = st.sampled_from(["noise", "ramp", "flat"])


@settings(max_examples=220, deadline=None)
@given(
    size=st.sampled_from([64, 96, 128, 288, 294]),
    longer=st.integers(1, 400),
    share=st.floats(0.34, 1.0),  # thinner, at 64 pixels, the port floors the shorter side to 0 and raises
    tall=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    content=CONTENTS,
)
@example(size=294, longer=294, share=1.0, tall=False, seed=0, content="noise")
@example(size=288, longer=288, share=1.0, tall=False, seed=0, content="noise")
@example(size=294, longer=333, share=0.75, tall=True, seed=1, content="noise")
def test_bit_equal_to_the_port(port, size: int, longer: int, share: float, tall: bool, seed: int, content: str) -> None:
    shorter = math.ceil(longer * share)
    image = picture(*((longer, shorter) if tall else (shorter, longer)), seed, content)
    ours, mask = ImageProcessor.from_dict({"size": size}).batch([image])
    theirs = port(size)(image, return_tensors="np")
    assert ours.dtype == theirs["pixel_values"].dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, theirs["pixel_values"])
    np.testing.assert_array_equal(mask, theirs["pixel_mask"])
    assert mask.dtype == theirs["pixel_mask"].dtype


OPTIONS = [
    {"do_center_crop": False},
    {"do_resize": False},
    {"do_rescale": False},
    {"do_normalize": False},
    {"crop_size": {"shortest_edge": 50}},
    {"crop_size": {"shortest_edge": 200}},
    {"size_divisor": 16},
    {"resample": 2},
    {"resample": 1},
    {"rescale_factor": 1 / 128},
    {"image_mean": [0.5, 0.25, 0.125], "image_std": [0.3, 0.2, 0.1]},
    {"image_mean": 0.5, "image_std": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
@pytest.mark.parametrize("shape", [(100, 130), (131, 97), (31, 40), (300, 300)])
def test_every_option_is_the_ports(port, options: dict, shape: tuple) -> None:
    image = picture(*shape, seed=3)
    ours = ImageProcessor.from_dict({"size": 96, **options}).batch([image])[0]
    np.testing.assert_array_equal(ours, port(96, **options)(image, return_tensors="np")["pixel_values"])


def test_a_batch_of_sizes_is_padded_and_masked_as_the_port_does(port) -> None:
    images = [picture(*shape, seed=5) for shape in [(100, 130), (131, 97), (96, 160)]]
    values, mask = ImageProcessor.from_dict({"size": 96, "do_center_crop": False}).batch(images)
    theirs = port(96, do_center_crop=False)(images, return_tensors="np")
    np.testing.assert_array_equal(values, theirs["pixel_values"])
    np.testing.assert_array_equal(mask, theirs["pixel_mask"])
    assert mask.dtype == np.int64


def test_other_orders_of_rescaling_are_not_bit_equal() -> None:
    """The planted fault: what a less careful table would hold differs, so equality above means something."""
    table = image_processor._normalisation_tables(ImageSettings())
    mean, std = (np.array(each, np.float32)[:, None] for each in (CLIP_MEAN, CLIP_STD))
    levels = np.arange(256, dtype=np.uint8)
    float32_first = (levels.astype(np.float32) * np.float32(1 / 255) - mean) / std
    inverse_std = ((levels * (1 / 255)).astype(np.float32) - mean) * (np.float32(1) / std)
    at_the_end = ((levels * (1 / 255) - mean.astype(float)) / std.astype(float)).astype(np.float32)
    for wrong in (float32_first, inverse_std, at_the_end):
        np.testing.assert_allclose(wrong, table, rtol=1e-5, atol=1e-6)
        assert (wrong != table).any()


@pytest.mark.parametrize("fault", ["offset", "resample", "canvas"])
def test_a_fault_in_the_geometry_breaks_equality(port, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(311, 420, seed=9)
    expected = port(294)(image, return_tensors="np")["pixel_values"]
    processor = ImageProcessor.from_dict({"size": 294})
    np.testing.assert_array_equal(processor.batch([image])[0], expected)
    crop = image_processor._centre_crop
    if fault == "offset":
        monkeypatch.setattr(
            image_processor,
            "_centre_crop",
            lambda each, *size: crop(each.transform(each.size, 0, (1, 0, 1, 0, 1, 0)), *size),
        )
    elif fault == "resample":
        processor = ImageProcessor.from_dict({"size": 294, "resample": 2})
    else:
        monkeypatch.setattr(image_processor, "_centre_crop", lambda each, height, width: each.resize((width, height)))
    assert (processor.batch([image])[0] != expected).any()


@pytest.mark.parametrize(
    ("height", "width", "resized"),
    [(1, 1, (288, 288)), (2000, 1, (448, 32)), (1, 2000, (32, 448)), (1, 100_000, (32, 448)), (10, 300, (32, 448))],
)
def test_shapes_that_the_port_refuses(height: int, width: int, resized: tuple) -> None:
    processor = ImageProcessor.from_dict({})
    assert processor.resized_size(height, width) == resized
    values = processor(Image.new("RGB", (width, height), (255, 255, 255)))
    assert values.shape == (3, 288, 288)
    white = values.max(axis=(1, 2))
    np.testing.assert_allclose(white, (1 - np.array(CLIP_MEAN)) / np.array(CLIP_STD), rtol=1e-6)
    seen = min(resized[0], 288) * min(resized[1], 288)
    assert (values == white[:, None, None]).sum() == 3 * seen


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 400), st.integers(1, 64))
def test_every_shape_has_a_size_of_whole_cells(height: int, width: int, size: int, divisor: int) -> None:
    processor = ImageProcessor.from_dict({"size": size, "size_divisor": divisor})
    found = processor.resized_size(height, width)
    assert all(side >= divisor and side % divisor == 0 for side in found)
    assert max(found) <= max(int(1333 / 800 * size) + 1, divisor)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16", "I", "F"])
def test_modes_that_the_port_refuses(mode: str) -> None:
    """White is white in every mode."""
    white = {"I;16": 65_535, "I": 65_535, "F": 1.0, "CMYK": (0, 0, 0, 0), "LA": (255, 255), "RGBA": (9, 9, 9, 0)}
    image = Image.new(mode, (300, 300), white.get(mode, 1 if mode == "1" else 255))
    if mode == "P":
        image.putpalette([255] * 768)
    values = ImageProcessor.from_dict({})(image)
    expected = ImageProcessor.from_dict({})(Image.new("RGB", (300, 300), (255, 255, 255)))
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("size", [{"height": 384, "width": 384}, {"height": 96, "width": 160}])
def test_squash_is_one_bicubic_resize(size: dict) -> None:
    image = picture(231, 457, seed=2)
    processor = ImageProcessor.from_dict({"size": size})
    expected = np.asarray(image.resize((size["width"], size["height"]), Image.Resampling.BICUBIC))
    scaled = (expected * (1 / 255)).astype(np.float32)
    normalised = (scaled - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
    np.testing.assert_array_equal(processor(image), normalised.transpose(2, 0, 1))
    assert processor.output_size == (size["height"], size["width"])


def test_the_pipeline_is_chosen_by_the_file_or_the_option() -> None:
    chosen = [
        ({}, None, "crop 288x288 bicubic"),
        ({"size": 294}, None, "crop 294x294 bicubic"),
        ({"size": 384}, "squash", "squash 384x384 bicubic"),
        ({"size": 384, "pipeline": "squash"}, None, "squash 384x384 bicubic"),
        ({"size": {"height": 384, "width": 384}}, None, "squash 384x384 bicubic"),
        ({"size": {"height": 384, "width": 384}}, "crop", "crop 384x384 bicubic"),
        ({"size": 384, "pipeline": "squash", "resample": 2}, "crop", "crop 384x384 bilinear"),
    ]
    for config, option, expected in chosen:
        assert ImageProcessor.from_dict(config, pipeline=option).settings.describe() == expected
    with pytest.raises(BadConfig, match="pipeline is 'stretch'; crop or squash is needed"):
        ImageProcessor.from_dict({}, pipeline="stretch")


@pytest.mark.parametrize(
    ("config", "option"),
    [({"size": 294}, None), ({"size": 384}, "squash"), ({"size": {"height": 96, "width": 128}}, None)],
)
def test_transformers_reads_what_is_written(config: dict, option: str | None, tmp_path: Path) -> None:
    auto = pytest.importorskip("transformers").AutoImageProcessor
    processor = ImageProcessor.from_dict(config, pipeline=option)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    theirs = auto.from_pretrained(tmp_path, backend="pil")
    image = picture(321, 457, seed=4)
    np.testing.assert_array_equal(theirs(image, return_tensors="np")["pixel_values"], processor.batch([image])[0])


def test_a_buffer_is_written_in_place() -> None:
    processor = ImageProcessor.from_dict({"size": 64})
    image = picture(80, 90, seed=1)
    buffer = np.full((2, 3, 64, 64), 7, np.float32)
    returned = processor(image, out=buffer[1])
    assert returned.base is buffer
    np.testing.assert_array_equal(buffer[1], processor(image))
    assert (buffer[0] == 7).all()
    for wrong in (np.empty((3, 64, 63), np.float32), np.empty((3, 64, 64), np.float64)):
        with pytest.raises(ValueError, match=r"float32 \(3, 64, 64\) is needed"):
            processor(image, out=wrong)


def test_an_empty_batch() -> None:
    for config in ({}, {"do_center_crop": False}):
        values, mask = ImageProcessor.from_dict(config).batch([])
        assert len(values) == len(mask) == 0
        assert (values.dtype, mask.dtype) == (np.float32, np.int64)


def test_the_fingerprint_follows_the_pixels_and_nothing_else() -> None:
    plain = ImageProcessor.from_dict({"size": 294})
    same = [
        {"size": {"shortest_edge": 294}, "note": "kept"},
        {"image_size": 294},
        {"size": 294, "crop_size": 294, "do_pad": True},
        plain.to_dict(),
    ]
    assert {ImageProcessor.from_dict(each).fingerprint() for each in same} == {plain.fingerprint()}
    others = [{}, *({"size": 294, **each} for each in OPTIONS), {"size": 294, "pipeline": "squash"}]
    found = [plain.fingerprint(), *(ImageProcessor.from_dict(each).fingerprint() for each in others)]
    assert len(set(found)) == len(found)
    assert plain.fingerprint() == "aad5439fb1cecb3c"  # indexes on disk hold it: a change needs a new _REVISION


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@functools.cache
def photo(height: int, width: int) -> Image.Image:
    """Smooth shapes with fine grain on them: what makes a photograph hard to reduce."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (7 + 30 * n)) * np.cos(columns / (11 + 17 * n)) for n in range(3)]
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(128 + 70 * np.stack(waves, axis=-1) + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("size", "pipeline"), [(288, "crop"), (294, "crop"), (384, "squash"), (96, "crop")])
@pytest.mark.parametrize("shape", [(2000, 1501), (1300, 1300)])
def test_a_draft_is_within_a_level_of_the_exact_picture(size: int, pipeline: str, shape: tuple) -> None:
    processor = ImageProcessor.from_dict({"size": size}, pipeline=pipeline)
    data = jpeg(photo(*shape))
    exact = np.asarray(processor.resized(data)).astype(float)
    draft = np.asarray(processor.resized(data, exact=False)).astype(float)
    error = np.sqrt(((exact - draft) ** 2).mean())
    assert error < 0.7
    assert (error > 0) == (min(shape) >= 4 * size)  # below, no smaller draft is large enough
    wrong = np.asarray(processor.resized(open_image(data, draft=size * 3 // 5)))  # a draft without the margin
    if min(shape) >= 4 * size:
        assert np.sqrt(((exact - wrong) ** 2).mean()) > 1.5 * error


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_draft_does_not_shift_the_picture(orientation: int) -> None:
    processor = ImageProcessor.from_dict({"size": 96})
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    photo(1601, 2001).save(buffer, "JPEG", quality=92, exif=exif)
    exact = np.asarray(processor.resized(buffer.getvalue())).astype(float)
    draft = np.asarray(processor.resized(buffer.getvalue(), exact=False)).astype(float)
    assert np.sqrt(((exact - draft) ** 2).mean()) < 1
    decoded = processor.decoded(buffer.getvalue(), exact=False)
    whole_draft = decoded._replace(box=(0.0, 0.0, *map(float, decoded.image.size)))
    shifted = processor.pixels(whole_draft, exact=False) - processor.pixels(decoded, exact=False)
    assert np.abs(shifted).max() > 0.05  # what the box prevents


def test_a_draft_has_the_geometry_of_the_whole() -> None:
    """4000 x 3001 gives 384 columns; its draft of 1000 x 751, asked by itself, would give 352."""
    processor = ImageProcessor.from_dict({"size": 288, "do_center_crop": False})
    data = jpeg(Image.new("RGB", (4000, 3001)))
    decoded = processor.decoded(data, exact=False)
    assert decoded[1:5] == (4000, 3001, (0, 0, 1000, 750.25), 0.0)
    assert decoded.image.size == (1000, 751)
    assert processor.resized_size(751, 1000) == (288, 352)
    assert processor(data, exact=False).shape == processor(data).shape == (3, 288, 384)


def test_small_and_lossless_files_are_exact_without_being_asked() -> None:
    processor = ImageProcessor.from_dict({"size": 288})
    for source in (jpeg(photo(480, 640)), photo(900, 1200)):
        np.testing.assert_array_equal(processor(source, exact=False), processor(source))


def test_a_large_lossless_file_is_first_averaged_in_blocks() -> None:
    processor = ImageProcessor.from_dict({"size": 96})
    image = photo(1300, 1300)
    exact = np.asarray(processor.resized(image)).astype(float)
    near = np.asarray(processor.resized(image, exact=False)).astype(float)
    assert 0 < np.sqrt(((exact - near) ** 2).mean()) < 1
