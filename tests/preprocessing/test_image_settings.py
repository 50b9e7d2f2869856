"""preprocessor_config.json: what the hub's files say, and what no file may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bt_cli.errors import BadConfig
from bt_cli.preprocessing.image_settings import ImageSettings


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("bridgetower-base", 288),
        ("bridgetower-base-itm-mlm", 288),
        ("bridgetower-large-itm-mlm", 294),
        ("bridgetower-large-itm-mlm-gaudi", 294),
        ("bridgetower-large-itm-mlm-itc", 294),
    ],
)
def test_the_hubs_files(reference: Path, name: str, side: int) -> None:
    config = json.loads((reference / "hub_configs" / name / "preprocessor_config.json").read_text())
    settings = ImageSettings.from_dict(config)
    assert (settings.pipeline, settings.size, settings.crop_size) == ("crop", (side, side), (side, side))
    assert (
        settings.to_dict().items() >= {key: config[key] for key in config if key not in ("size", "image_size")}.items()
    )


@pytest.mark.parametrize(
    ("config", "image_size", "size", "crop"),
    [
        ({}, None, 288, 288),
        ({}, 64, 64, 64),
        ({"size": 96}, 64, 96, 96),
        ({"image_size": 96}, 64, 96, 96),
        ({"size": 96.0}, None, 96, 96),
        ({"size": None, "crop_size": None}, 64, 64, 64),
        ({"size": {"shortest_edge": 96, "longest_edge": None}}, None, 96, 96),
        ({"size": 96, "crop_size": 90}, None, 96, 90),
        ({"size": 96, "crop_size": {"shortest_edge": 90}}, None, 96, 90),
        ({"image_processor": {"size": 96}, "processor_class": "X"}, None, 96, 96),
    ],
)
def test_sizes_fall_back(config: dict, image_size: int | None, size: int, crop: int) -> None:
    settings = ImageSettings.from_dict(config, image_size)
    assert (settings.size, settings.crop_size) == ((size, size), (crop, crop))


def test_crops_may_be_oblong() -> None:
    settings = ImageSettings.from_dict({"size": 96, "crop_size": {"height": 64, "width": 96}})
    assert (settings.size, settings.crop_size) == ((96, 96), (64, 96))
    assert ImageSettings.from_dict(settings.to_dict()) == settings


def test_unknown_keys_survive_a_round_trip() -> None:
    unknown = {"max_text_len": 50, "tokenizer": "roberta-large", "loss_names": {"itm": 1}, "nothing": None}
    written = ImageSettings.from_dict({"size": 294, **unknown}).to_dict()
    assert {key: written[key] for key in unknown} == unknown
    assert ImageSettings.from_dict(written).to_dict() == written
    assert json.loads(json.dumps(written)) == written


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": 0}, "size is 0; a whole number above zero is needed"),
        ({"size": -3}, "size is -3; a whole number above zero is needed"),
        ({"size": 28.5}, "size is 28.5; a whole number above zero is needed"),
        ({"size": True}, "size is True; a whole number above zero is needed"),
        ({"size": "288"}, "size is '288'; a whole number above zero is needed"),
        ({"size": float("inf")}, "size is inf; a whole number above zero is needed"),
        ({"size": 10**9}, "size is 1000000000; at most 2048 pixels is needed"),
        ({"crop_size": 2049}, "crop_size is 2049; at most 2048 pixels is needed"),
        ({"size_divisor": 16_384}, "size_divisor is 16384; at most 2048 pixels is needed"),
        ({"size": {}}, "size is {}; a number, shortest_edge, or height and width is needed"),
        ({"size": {"height": 5}}, "size is {'height': 5}; a number, shortest_edge, or height and width is needed"),
        ({"size": {"height": 5, "width": 0}}, "size.width is 0; a whole number above zero is needed"),
        ({"size": {"shortest_edge": "a"}}, "size.shortest_edge is 'a'; a whole number above zero is needed"),
        ({"image_size": -1}, "image_size is -1; a whole number above zero is needed"),
        ({"crop_size": [1, 2, 3]}, "crop_size is [1, 2, 3]; a whole number above zero is needed"),
        ({"size_divisor": 0}, "size_divisor is 0; a whole number above zero is needed"),
        ({"rescale_factor": 0}, "rescale_factor is 0; a number above zero is needed"),
        ({"rescale_factor": float("nan")}, "rescale_factor is nan; a number is needed"),
        ({"image_mean": [1, 2]}, "image_mean is [1, 2]; a number for each of red, green and blue is needed"),
        ({"image_mean": [1, 2, "x"]}, "image_mean is 'x'; a number is needed"),
        ({"image_std": [0.1, 0.0, 0.1]}, "image_std is 0.0; a number above zero is needed"),
        ({"do_resize": 1}, "do_resize is 1; true or false is needed"),
        ({"do_center_crop": "no"}, "do_center_crop is 'no'; true or false is needed"),
        ({"pipeline": 3}, "pipeline is 3; crop or squash is needed"),
        (
            {"resample": 9},
            "resample is 9; one of 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (hamming) is needed",
        ),
        ([1], "an object is needed, not list"),
    ],
)
def test_impossible_values_are_refused_by_name(config: object, message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        ImageSettings.from_dict(config)
    assert str(caught.value) == f"preprocessor_config.json: {message}"


def test_an_overflow_is_seen_when_the_tables_are_made() -> None:
    from bt_cli.preprocessing.image_processor import ImageProcessor

    with pytest.raises(BadConfig, match="leave the range of float32"):
        ImageProcessor.from_dict({"image_std": 1e-45, "image_mean": -1e300})
