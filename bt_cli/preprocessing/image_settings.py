"""The fields of preprocessor_config.json: reading, defaults, checks, writing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bt_cli.errors import BadConfig

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
DEFAULT_SIZE = 288
BICUBIC = 3
PIPELINES = ("crop", "squash")

_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_LARGEST_SIDE = 2048  # a picture of so many pixels squared takes 48 MiB, and no BridgeTower sees 600


@dataclass(frozen=True)
class ImageSettings:
    """What happens to an image on its way to the network; every size is (height, width) in pixels.

    In the "crop" pipeline `size` is square and stands for the shorter side.
    """

    pipeline: str = "crop"
    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE)
    crop_size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE)
    size_divisor: int = 32
    resample: int = BICUBIC
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    do_resize: bool = True
    do_center_crop: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(
        cls, config: Mapping[str, Any], image_size: int | None = None, *, pipeline: str | None = None
    ) -> ImageSettings:
        """See `ImageProcessor.from_dict`. `crop_size` falls back to `size`, `size` to `image_size`, that to 288.

        The pipeline is the key "pipeline" where there is one; else "squash" for a size of height and width, which the
        crop pipeline has no use for; else "crop".
        """
        if not isinstance(config, Mapping):
            raise BadConfig(f"preprocessor_config.json: an object is needed, not {type(config).__name__}")
        if isinstance(config.get("image_processor"), Mapping):  # processor_config.json of newer transformers
            config = config["image_processor"]
        named = next((key for key in ("size", "image_size") if config.get(key) is not None), None)
        size = (
            _size(named, config[named])
            if named
            else _size("image_size", DEFAULT_SIZE if image_size is None else image_size)
        )
        pipeline = pipeline or config.get("pipeline") or _pipeline_of(config.get(named) if named else None)
        if pipeline not in PIPELINES:
            raise _impossible("pipeline", pipeline, "crop or squash")
        if pipeline == "crop" and size[0] != size[1]:
            size = (min(size), min(size))
        crop = config.get("crop_size")
        return cls(
            pipeline=pipeline,
            size=size,
            crop_size=size if crop is None else _size("crop_size", crop),
            size_divisor=_side("size_divisor", _value(config, "size_divisor", 32)),
            resample=_resample(_value(config, "resample", BICUBIC)),
            rescale_factor=_number("rescale_factor", _value(config, "rescale_factor", 1 / 255), above_zero=True),
            image_mean=_channels("image_mean", _value(config, "image_mean", CLIP_MEAN)),
            image_std=_channels("image_std", _value(config, "image_std", CLIP_STD), above_zero=True),
            do_resize=_flag("do_resize", _value(config, "do_resize", True)),
            do_center_crop=_flag("do_center_crop", _value(config, "do_center_crop", True)) and pipeline == "crop",
            do_rescale=_flag("do_rescale", _value(config, "do_rescale", True)),
            do_normalize=_flag("do_normalize", _value(config, "do_normalize", True)),
            unknown={key: value for key, value in config.items() if key not in _WRITTEN},
        )

    def to_dict(self) -> dict[str, Any]:
        """The object of preprocessor_config.json, unknown keys first as they came.

        A squash pipeline names the processor class of `transformers` that does the same: its BridgeTower processor
        can't.
        """
        crop = self.pipeline == "crop"
        height, width = self.crop_size
        return {
            **self.unknown,
            "image_processor_type": "BridgeTowerImageProcessor" if crop else "ViTImageProcessor",
            "pipeline": self.pipeline,
            "size": {"shortest_edge": self.size[0]} if crop else {"height": self.size[0], "width": self.size[1]},
            "crop_size": (
                {"shortest_edge": height} if crop and height == width else {"height": height, "width": width}
            ),
            "size_divisor": self.size_divisor,
            "resample": self.resample,
            "rescale_factor": self.rescale_factor,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "do_resize": self.do_resize,
            "do_center_crop": self.do_center_crop,
            "do_rescale": self.do_rescale,
            "do_normalize": self.do_normalize,
            "do_pad": True,
        }

    def effective(self) -> dict[str, Any]:
        """What decides the pixels and nothing else: settings that are off or unused in the pipeline are left out."""
        crop = self.pipeline == "crop"
        parts: dict[str, Any] = {}
        if self.do_resize:
            parts |= {"pipeline": self.pipeline, "size": self.size, "resample": self.resample}
            if crop:
                parts["size_divisor"] = self.size_divisor
        if self.do_center_crop:
            parts["crop_size"] = self.crop_size
        if self.do_rescale:
            parts["rescale_factor"] = self.rescale_factor
        if self.do_normalize:
            parts |= {"image_mean": self.image_mean, "image_std": self.image_std}
        return parts

    def describe(self) -> str:
        """For people and file metadata: `crop 288x288 bicubic`, `squash 384x384 bicubic`."""
        height, width = self.crop_size if self.pipeline == "crop" else self.size
        return f"{self.pipeline} {width}x{height} {_RESAMPLING[self.resample]}"


_WRITTEN = frozenset(ImageSettings().to_dict()) | {"image_size", "_processor_class"}


def _value(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    return default if value is None else value


def _pipeline_of(size: Any) -> str:
    return "squash" if isinstance(size, Mapping) and {"height", "width"} <= size.keys() else "crop"


def _impossible(key: str, value: Any, needed: str) -> BadConfig:
    return BadConfig(f"preprocessor_config.json: {key} is {value!r:.100}; {needed} is needed")


def _size(key: str, value: Any) -> tuple[int, int]:
    """An int, {"shortest_edge": n} or {"height": h, "width": w} to (height, width)."""
    if isinstance(value, Mapping):
        known = {name: side for name, side in value.items() if side is not None}
        if {"height", "width"} <= known.keys():
            return _side(f"{key}.height", known["height"]), _side(f"{key}.width", known["width"])
        if "shortest_edge" in known:
            side = _side(f"{key}.shortest_edge", known["shortest_edge"])
            return side, side
        raise _impossible(key, dict(value), "a number, shortest_edge, or height and width")
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return _side(f"{key}[0]", value[0]), _side(f"{key}[1]", value[1])
    side = _side(key, value)
    return side, side


def _side(key: str, value: Any) -> int:
    side = _whole(key, value)
    if side > _LARGEST_SIDE:
        raise _impossible(key, value, f"at most {_LARGEST_SIDE} pixels")
    return side


def _whole(key: str, value: Any) -> int:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value != int(value) or value < 1:
        raise _impossible(key, value, "a whole number above zero")
    return int(value)


def _number(key: str, value: Any, *, above_zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _impossible(key, value, "a number")
    if above_zero and value <= 0:
        raise _impossible(key, value, "a number above zero")
    return float(value)


def _channels(key: str, value: Any, *, above_zero: bool = False) -> tuple[float, float, float]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3:
        raise _impossible(key, value, "a number for each of red, green and blue")
    red, green, blue = (_number(key, each, above_zero=above_zero) for each in values)
    return red, green, blue


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _impossible(key, value, "true or false")
    return value


def _resample(value: Any) -> int:
    number = -1 if isinstance(value, bool) or not isinstance(value, int) else value
    if number not in _RESAMPLING:
        raise _impossible(
            "resample", value, "one of " + ", ".join(f"{key} ({name})" for key, name in _RESAMPLING.items())
        )
    return number
