"""The documented image processor: against the port's Pillow path, bit for bit, and beyond it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import bt_cli
from bt_cli.errors import BadConfig, Misuse, NotFound, UnreadableImage
from bt_cli.processing.image_processor import BridgeTowerImageProcessor, BridgeTowerImageProcessorPil

Port = pytest.importorskip("transformers").BridgeTowerImageProcessorPil


def picture(width: int = 83, height: int = 61, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


def both(images: Any, **options: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Ours and the port's result, as arrays."""
    ours = BridgeTowerImageProcessor()(images, return_tensors="np", **options)
    port = Port()(images, return_tensors="np", **options)
    return dict(ours), dict(port)


def assert_same(ours: dict[str, np.ndarray], port: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(port)
    for name, values in port.items():
        assert ours[name].dtype == values.dtype, name
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": {"shortest_edge": 64}},
        {"size": 64, "crop_size": {"shortest_edge": 70}},
        {"size": {"shortest_edge": 64}, "crop_size": {"shortest_edge": 37}, "size_divisor": 16},
        {"resample": 2, "size": {"shortest_edge": 96}},
        {"resample": Image.Resampling.NEAREST, "do_center_crop": False},
        {"do_resize": False, "crop_size": {"shortest_edge": 64}},
        {"do_resize": False, "do_center_crop": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [0.5, 0.4, 0.3], "image_std": (0.5, 0.6, 0.7)},
        {"do_pad": False},
        {"image_mean": np.array([0.5, 0.4, 0.3]).tolist(), "do_pad": False, "do_rescale": True},
    ],
    ids=str,
)
def test_every_option_gives_the_ports_bits(options: dict[str, Any]) -> None:
    changed = dict(options)
    if "size" in options and "crop_size" not in options:
        changed["crop_size"] = {"shortest_edge": 288}  # what the port takes without one
    assert_same(*both([picture(), picture(83, 61, 1)], **changed))
    constructed = BridgeTowerImageProcessor(**changed)(picture(), return_tensors="np")
    assert_same(dict(constructed), dict(Port(**changed)(picture(), return_tensors="np")))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 200), st.integers(20, 200), st.integers(32, 128), st.integers(20, 150), st.sampled_from([1, 16, 32])
)
def test_any_size_gives_the_ports_bits(width: int, height: int, shorter: int, crop: int, divisor: int) -> None:
    options: dict[str, Any] = {"size": {"shortest_edge": shorter}, "size_divisor": divisor}
    longest = max(width, height) / min(width, height)
    if longest < 1.6:  # beyond, the port can end at a side of nothing, and raise
        assert_same(*both(picture(width, height), crop_size={"shortest_edge": crop}, **options))


def test_pictures_of_unequal_size_are_padded_and_masked_as_in_the_port() -> None:
    ours, port = both([picture(90, 64), picture(64, 120)], do_center_crop=False, size={"shortest_edge": 64})
    assert_same(ours, port)
    assert ours["pixel_values"].shape == (2, 3, 96, 64)
    assert ours["pixel_mask"].sum(axis=(1, 2)).tolist() == [64 * 64, 96 * 32]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("resize", [True, False])
def test_arrays_of_levels_give_the_ports_bits(dtype: Any, first: bool, resize: bool) -> None:
    array = np.asarray(picture()).astype(dtype)
    array = np.moveaxis(array, -1, 0) if first else array
    for each in (array, np.stack([array, array]), [array, array], torch.tensor(array)):
        assert_same(*both(each, do_resize=resize, crop_size={"shortest_edge": 80}))


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("resize", [True, False])
def test_a_tensor_of_0_to_1_gives_the_ports_bits(rescale: bool, resize: bool) -> None:
    tensor = torch.rand(3, 61, 83, generator=torch.Generator().manual_seed(0))
    assert_same(*both(tensor, do_rescale=rescale, do_resize=resize))


def test_a_tensor_that_is_rescaled_twice_is_remarked_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bt_cli"):
        BridgeTowerImageProcessor()(torch.rand(3, 40, 40))
    assert "pass do_rescale=False if it was already" in caplog.text
    caplog.clear()
    BridgeTowerImageProcessor()(torch.rand(3, 40, 40), do_rescale=False)
    assert caplog.text == ""


def test_without_a_crop_size_the_crop_is_as_large_as_the_size() -> None:
    """The published large checkpoints are of 294 pixels and name no crop_size; the port crops them to 288."""
    assert BridgeTowerImageProcessor(size=294)(picture(), return_tensors="np").pixel_values.shape[-2:] == (294, 294)
    assert BridgeTowerImageProcessor()(picture(), size=294, return_tensors="np").pixel_values.shape[-1] == 294
    assert Port(size=294)(picture(), return_tensors="np").pixel_values.shape[-2:] == (288, 288)
    told = BridgeTowerImageProcessor(size=294, crop_size={"shortest_edge": 288})
    assert_same(dict(told(picture(), return_tensors="np")), dict(Port(size=294)(picture(), return_tensors="np")))
    written = BridgeTowerImageProcessor(size=294).to_dict()
    assert written["crop_size"] == {"shortest_edge": 294}
    assert_same(
        dict(BridgeTowerImageProcessor(size=294)(picture(), return_tensors="np")),
        dict(Port.from_dict(written)(picture(), return_tensors="np")),
    )


def test_an_unset_crop_size_follows_the_size() -> None:
    processor = BridgeTowerImageProcessor()
    processor.size = {"shortest_edge": 384}
    assert processor.crop_size == {"shortest_edge": 384}
    assert processor.size.shortest_edge == 384
    assert processor.size.height is None
    assert processor(picture(), return_tensors="np").pixel_values.shape == (1, 3, 384, 384)


def test_official_settings_give_the_ports_bits_once_it_is_told_the_crop(reference: Path) -> None:
    folders = sorted((reference / "hub_configs").iterdir())
    assert len(folders) == 5
    for folder in folders:
        ours = BridgeTowerImageProcessor.from_pretrained(folder)
        side = 294 if "large" in folder.name else 288
        assert ours.size == ours.crop_size == {"shortest_edge": side}
        port = Port.from_pretrained(folder, crop_size={"shortest_edge": side}, size={"shortest_edge": side})
        assert_same(dict(ours(picture(), return_tensors="np")), dict(port(picture(), return_tensors="np")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"])
def test_pictures_of_any_mode_work(mode: str) -> None:
    grey = picture().convert("L")
    whole = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    values = BridgeTowerImageProcessor(size=64)(whole, return_tensors="pt").pixel_values
    assert values.shape == (1, 3, 64, 64)
    if mode in ("L", "P", "LA", "RGBA", "I;16", "I", "F"):
        expected = BridgeTowerImageProcessor(size=64)(grey.convert("RGB"), return_tensors="pt").pixel_values
        torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_what_an_image_may_be(tmp_path: Path) -> None:
    processor = BridgeTowerImageProcessor(size=64)
    path = tmp_path / "a.png"
    picture().save(path)
    array = np.asarray(picture())
    kinds = [picture(), path, str(path), path.read_bytes(), array, array.transpose(2, 0, 1), torch.tensor(array)]
    expected = processor(picture(), return_tensors="np").pixel_values
    for kind in [*kinds, [kinds[0]], (kinds[1],), [[kinds[4]]]]:
        np.testing.assert_array_equal(processor(kind, return_tensors="np").pixel_values, expected)
    nested = processor([kinds[:2], [kinds[2]], kinds[4]], return_tensors="np").pixel_values
    np.testing.assert_array_equal(nested, np.repeat(expected, 4, 0))
    grey = array[..., 0]
    values = [processor(each, return_tensors="np").pixel_values for each in (grey, grey[None], grey[..., None])]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    rgba = np.dstack([array, np.full_like(grey, 255)])
    np.testing.assert_array_equal(processor(rgba, return_tensors="np").pixel_values, expected)
    half = torch.rand(3, 40, 40).to(torch.bfloat16)
    assert processor(half, do_rescale=False, return_tensors="pt").pixel_values.dtype == torch.float32


def test_an_array_whose_shape_says_two_things_can_be_told() -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 40, 3), np.uint8)
    processor = BridgeTowerImageProcessor(do_resize=False, do_center_crop=False)
    first = processor(array, input_data_format="channels_first", return_tensors="np").pixel_values
    last = processor(array, input_data_format="channels_last", return_tensors="np").pixel_values
    assert (first.shape, last.shape) == ((1, 3, 40, 3), (1, 3, 3, 40))
    np.testing.assert_array_equal(processor(array, return_tensors="np").pixel_values, first)


def test_results_come_in_the_kind_and_layout_asked_for() -> None:
    processor = BridgeTowerImageProcessor(size=64)
    plain = processor([picture(), picture()])
    assert isinstance(plain.pixel_values, list)
    assert [each.shape for each in plain.pixel_values] == [(3, 64, 64)] * 2
    last = processor(picture(), data_format="channels_last", return_tensors="np")
    first = processor(picture(), return_tensors="pt")
    np.testing.assert_array_equal(last["pixel_values"], first["pixel_values"].permute(0, 2, 3, 1).numpy())
    assert last["pixel_mask"].shape == (1, 64, 64)
    assert list(first) == ["pixel_mask", "pixel_values"]


def test_height_and_width_resize_straight_to_them() -> None:
    values = BridgeTowerImageProcessor(size={"height": 64, "width": 96})(picture(), return_tensors="np").pixel_values
    assert values.shape == (1, 3, 64, 96)
    levels = np.asarray(picture().resize((96, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (bt_cli_mean(), bt_cli_std()))
    np.testing.assert_array_equal(values[0], ((levels / 255).astype(np.float32) - mean) / std)
    crop = BridgeTowerImageProcessor(size=96, crop_size=(64, 90))(picture(), return_tensors="np").pixel_values
    assert crop.shape == (1, 3, 64, 90)


def bt_cli_mean() -> tuple[float, ...]:
    return (0.48145466, 0.4578275, 0.40821073)


def bt_cli_std() -> tuple[float, ...]:
    return (0.26862954, 0.26130258, 0.27577711)


def test_padding_may_go_to_a_size_or_be_left_out() -> None:
    processor = BridgeTowerImageProcessor(size=64, do_center_crop=False)
    padded = processor(picture(80, 64), pad_size={"height": 100, "width": 120}, return_tensors="np")
    assert padded.pixel_values.shape == (1, 3, 100, 120)
    assert padded.pixel_mask.sum() == 64 * 64
    with pytest.raises(Misuse, match="pad_size is 10 x 20, and an image has 64 x 64 pixels; make it larger"):
        processor(picture(80, 64), pad_size=(10, 20))
    apart = processor([picture(64, 64), picture(64, 120)], do_pad=False)
    assert "pixel_mask" not in apart
    assert [each.shape for each in apart.pixel_values] == [(3, 64, 64), (3, 96, 32)]
    with pytest.raises(
        Misuse, match="pixel_values has rows of unequal size, which are no one tensor; pass do_pad=True"
    ):
        processor([picture(64, 64), picture(64, 120)], do_pad=False, return_tensors="pt")


def test_the_batch_is_a_mapping_with_attributes_that_moves() -> None:
    batch = BridgeTowerImageProcessor(size=64)(picture(), return_tensors="pt")
    assert set(batch.keys()) == set(batch.data) == set({**batch}) == {"pixel_values", "pixel_mask"}
    assert batch.pixel_values is batch["pixel_values"]
    assert batch.to(torch.bfloat16) is batch
    assert (batch.pixel_values.dtype, batch.pixel_mask.dtype) == (torch.bfloat16, torch.int64)
    assert batch.to("cpu", dtype=torch.float32).pixel_values.dtype == torch.float32
    assert batch.to("meta").pixel_mask.device.type == "meta"
    assert batch.to(device=torch.device("meta"), non_blocking=True).pixel_values.device.type == "meta"
    with pytest.raises(AttributeError, match="no attribute 'labels'; it has pixel_mask, pixel_values"):
        _ = batch.labels
    with pytest.raises(Misuse, match="neither a device nor a dtype"):
        batch.to({})
    arrays = BridgeTowerImageProcessor(size=64)(picture(), return_tensors="np")
    again = pickle.loads(pickle.dumps(copy.deepcopy(arrays)))
    np.testing.assert_array_equal(again.pixel_values, arrays.pixel_values)
    assert arrays.convert_to_tensors("pt").pixel_values.dtype == torch.float32
    assert arrays.convert_to_tensors("np").to("cpu") is arrays


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ("missing.png", {}, UnreadableImage, "missing.png: no such file"),
        ("https://example.org/a.png", {}, Misuse, "addresses are not fetched; download the image"),
        (None, {}, UnreadableImage, "NoneType is neither a path nor an image"),
        ([], {}, Misuse, "no images: the list is empty"),
        (np.zeros((7, 9, 11), np.uint8), {}, Misuse, "has no axis of 1, 3 or 4 channels; pass input_data_format"),
        (np.zeros((2, 8, 9, 4), np.float32), {}, Misuse, "float32 \\(8, 9, 4\\) is no image"),
        (np.full((8, 9, 3), 300.0), {}, UnreadableImage, "float64 from 0 to 300 can't be resized as an image"),
        (np.full((8, 9, 3), np.nan), {}, UnreadableImage, "infinite or no numbers"),
        (picture(), {"do_resise": True}, Misuse, "has no option 'do_resise'; its options: do_resize, size"),
        (picture(), {"return_tensors": "tf"}, Misuse, "return_tensors is 'tf'; \"pt\""),
        (picture(), {"data_format": "hwc"}, Misuse, "data_format is 'hwc'; one of channels_first, channels_last"),
        (picture(), {"size": {"longest_edge": 3}}, BadConfig, "size is {'longest_edge': 3}; a number, shortest_edge"),
        (picture(), {"size": -3}, BadConfig, "shortest_edge is -3; a whole number above zero is needed"),
        (picture(), {"resample": 17}, BadConfig, "resample is 17; one of 0 \\(nearest\\)"),
        (picture(), {"do_pad": "yes"}, BadConfig, "do_pad"),
        (picture(), {"image_std": 0}, BadConfig, "image_std is 0; a number above zero is needed"),
    ],
)
def test_what_can_not_be_is_one_clear_line(images: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        BridgeTowerImageProcessor()(images, **options)
    assert "\n" not in str(caught.value)


def test_resample_may_be_named() -> None:
    for value in ("bilinear", "BILINEAR", 2, Image.Resampling.BILINEAR):
        assert BridgeTowerImageProcessor(resample=value).resample is Image.Resampling.BILINEAR


def test_settings_go_round_and_to_the_port(tmp_path: Path) -> None:
    processor = BridgeTowerImageProcessor(
        size=96, image_mean=[0.5, 0.5, 0.5], do_pad=False, house_rule="kept", resample=2
    )
    assert processor.house_rule == "kept"
    assert processor.save_pretrained(tmp_path / "a" / "b") == [str(tmp_path / "a" / "b" / "preprocessor_config.json")]
    again = BridgeTowerImageProcessorPil.from_pretrained(tmp_path / "a" / "b")
    assert again.to_dict() == processor.to_dict() == json.loads(processor.to_json_string())
    assert again == processor
    assert again != BridgeTowerImageProcessor()
    port = Port.from_pretrained(tmp_path / "a" / "b")
    assert_same(dict(again(picture(), return_tensors="np")), dict(port(picture(), return_tensors="np")))
    port.save_pretrained(tmp_path / "port")
    from_port = BridgeTowerImageProcessor.from_pretrained(tmp_path / "port")
    assert from_port.to_dict() == processor.to_dict()
    assert copy.deepcopy(processor) == processor
    assert pickle.loads(pickle.dumps(processor)) == processor
    assert repr(processor).startswith("BridgeTowerImageProcessor {\n")
    assert BridgeTowerImageProcessor().to_dict() == {
        **Port().to_dict(),
        **{name: list(getattr(Port(), name)) for name in ("image_mean", "image_std")},
    }


def test_options_go_over_the_file_and_unused_ones_come_back(tmp_path: Path) -> None:
    BridgeTowerImageProcessor(size=96).save_pretrained(tmp_path)
    processor, unused = BridgeTowerImageProcessor.from_pretrained(
        tmp_path, do_normalize=False, colour="red", return_unused_kwargs=True
    )
    assert (processor.do_normalize, processor.size, unused) == (False, {"shortest_edge": 96}, {"colour": "red"})
    assert BridgeTowerImageProcessor.from_pretrained(tmp_path / "preprocessor_config.json").size == {
        "shortest_edge": 96
    }
    assert BridgeTowerImageProcessor.from_json_file(tmp_path / "preprocessor_config.json") == processor.__class__(
        size=96
    )
    with pytest.raises(NotFound, match="no preprocessor_config.json or processor_config.json or config.json in it"):
        BridgeTowerImageProcessor.from_pretrained(tmp_path.parent, subfolder="none")
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(BadConfig, match="holds a list, but has to be a JSON object"):
        BridgeTowerImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(Misuse, match="hf upload"):
        processor.save_pretrained(tmp_path, push_to_hub=True)
    assert bt_cli.BridgeTowerImageProcessor is BridgeTowerImageProcessor
