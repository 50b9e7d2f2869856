"""The documented image processors: images of any kind to `pixel_values` and `pixel_mask`."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from bt_cli.checkpoints.save_folder import made_folder, refuse_push
from bt_cli.checkpoints.settings_files import WHERE, settings_folder
from bt_cli.errors import BadConfig, Misuse
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.json_object import SETTINGS, read_json_object
from bt_cli.hub.hub_cache import CONFIG, IMAGE_SETTINGS
from bt_cli.preprocessing.image_processor import ImageProcessor, pad_batch
from bt_cli.preprocessing.image_settings import BICUBIC, CLIP_MEAN, CLIP_STD, DEFAULT_SIZE, ImageSettings
from bt_cli.processing.batch import BatchFeature, tensor_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("bt_cli")

DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": DEFAULT_SIZE},
    "size_divisor": 32,
    "resample": Image.Resampling(BICUBIC),
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_center_crop": True,
    "crop_size": None,
    "do_pad": True,
    "pad_size": None,
    "return_tensors": None,
    "data_format": None,
    "input_data_format": None,
}
"""Every option with its default; a call may override each."""

WITHOUT_EFFECT = ("do_convert_rgb", "default_to_square", "device", "disable_grouping", "image_seq_length")
"""Options of the port's that change nothing here: images always become RGB, by Pillow, one after the other."""

_NOT_WRITTEN = ("return_tensors", "data_format", "input_data_format", "pad_size")
_FORMATS = ("channels_first", "channels_last")


class SizeDict(dict):
    """A size in pixels: `size["shortest_edge"]` and `size.shortest_edge`; None for what it doesn't name."""

    def __getattr__(self, name: str) -> Any:
        if name in ("height", "width", "shortest_edge", "longest_edge"):
            return self.get(name)
        raise AttributeError(f"a size has no {name!r}")


class BridgeTowerImageProcessor:
    """Resizes, crops, rescales, normalises and pads images, to the bit as the port's Pillow path.

    `processor(images, return_tensors="pt")` gives a mapping with `pixel_values` (n, 3, H, W) float32 and, where it
    pads, `pixel_mask` (n, H, W) int64, 1 where the image is. Every option may be given at construction, set as an
    attribute, and overridden in a call:

    - do_resize (True), size: {"shortest_edge": 288}, or its number: the shorter side gets that many pixels, the longer
      one at most int(1333 / 800 * size), both floored to a multiple of size_divisor (32). {"height": h, "width": w}
      resizes straight to that, without a crop.
    - resample (3, bicubic): a number or member of `PIL.Image.Resampling`, or its name.
    - do_center_crop (True), crop_size: a number, {"shortest_edge": n} or {"height": h, "width": w}. Without one it is
      `size`, which the published checkpoints count on.
    - do_rescale (True), rescale_factor (1 / 255); do_normalize (True), image_mean, image_std (CLIP's; one number, or
      one for each of red, green and blue).
    - do_pad (True): at the bottom and right, with zeros, to the largest of the batch, or to pad_size.
    - return_tensors: "pt", "np", or None for a list of arrays. data_format: "channels_first" (default) or
      "channels_last", of the result. input_data_format: the same of arrays given, told from their shape without it.

    Images are Pillow images of any mode, paths, the bytes of image files, numpy arrays or torch tensors (height,
    width), (height, width, channels) or (channels, height, width), batches of these, and lists of them, nested or not.
    Images come out upright, in RGB, transparency on white, with at least one cell of `size_divisor` a side: the
    port turns none and refuses all but RGB.

    Unknown options are kept as attributes and written back.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "pixel_mask"]
    backend: ClassVar[str] = "pil"
    default_to_square: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        """See the class for the options. Raises BadConfig for an impossible value, by name."""
        self._extra = {name: value for name, value in options.items() if name not in DEFAULTS}
        for name in WITHOUT_EFFECT:
            self._extra.pop(name, None)
        if options.get("size") is None and options.get("image_size") is not None:
            options["size"] = self._extra.pop("image_size")  # as bridgetower-base has it
        for name, default in DEFAULTS.items():
            value = options.get(name)
            setattr(self, name, copy.copy(default) if value is None else value)
        self._settings({})

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and name in ("size", "crop_size", "pad_size"):
            value = _size(value, square=name != "size")
        elif value is not None and name == "resample":
            value = _resampling(value)
        elif name in ("image_mean", "image_std"):
            value = _numbers(value)
        known = name.startswith("_") or name in DEFAULTS or hasattr(type(self), name)
        if known:
            object.__setattr__(self, name, value)
        else:
            self._extra[name] = value

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name == "crop_size" and value is None:
            return copy.copy(object.__getattribute__(self, "size"))
        return value

    def __getattr__(self, name: str) -> Any:
        if name in WITHOUT_EFFECT:
            return None
        extra = self.__dict__.get("_extra", {})
        if name in extra and not name.startswith("_"):
            return extra[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    # -- images to pixels ----------------------------------------------------------------------------------------

    def __call__(self, images: Any, *args: Any, **options: Any) -> BatchFeature:
        """`preprocess`."""
        return self.preprocess(images, *args, **options)

    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """Images to `pixel_values` and, where it pads, `pixel_mask`; see the class for what may be given.

        Raises:
            UnreadableImage: A path, bytes or an array that is no image.
            Misuse: An unknown option, no images, or images of unequal size where one tensor is wanted without padding.
            BadConfig: An impossible value, by name.
        """
        unknown = [name for name in options if name not in DEFAULTS and name not in WITHOUT_EFFECT]
        if unknown:
            raise Misuse(f"{type(self).__name__} has no option {unknown[0]!r}; its options: {', '.join(DEFAULTS)}")
        settings = self._settings(options)
        chosen = {name: _chosen(self, options, name) for name in DEFAULTS}
        kind = tensor_kind(chosen["return_tensors"])
        input_format = _format("input_data_format", chosen["input_data_format"])
        last = _format("data_format", chosen["data_format"]) == "channels_last"
        processor = ImageProcessor(settings)
        pixels = [_pixels(processor, image) for image in flat_images(images, input_format)]
        if not pixels:
            raise Misuse("no images: the list is empty")
        masks: list[NDArray[np.int64]] = []
        if chosen["do_pad"]:
            size = chosen["pad_size"]
            pixels, masks = _padded(pixels, None if size is None else _size(size, square=True))
        if last:
            pixels = [np.ascontiguousarray(np.moveaxis(each, 0, -1)) for each in pixels]
        padding = {"pixel_mask": masks} if masks else {}
        return BatchFeature({**padding, "pixel_values": pixels}, kind)

    def _settings(self, options: Mapping[str, Any]) -> ImageSettings:
        """What the pixels depend on, with a call's options over the processor's own."""
        names = [name for name in DEFAULTS if name not in _NOT_WRITTEN and name not in ("do_pad", "crop_size")]
        values = {name: _chosen(self, options, name) for name in names}
        values["size"] = _size(values["size"], square=False)
        values["resample"] = int(_resampling(values["resample"]))
        values |= {name: _numbers(values[name]) for name in ("image_mean", "image_std")}
        crop = options.get("crop_size")
        crop = self.__dict__["crop_size"] if crop is None else _size(crop, square=True)
        if not isinstance(_chosen(self, options, "do_pad"), bool):
            raise BadConfig(f"preprocessor_config.json: do_pad is {self.do_pad!r:.100}; true or false is needed")
        return ImageSettings.from_dict({**values, "crop_size": crop})

    # -- files and the hub ---------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """What preprocessor_config.json holds; `crop_size` is always there, since the port takes 288 without it."""
        written = self._settings({}).to_dict()
        del written["pipeline"]
        named = {"size": dict(self.size), "crop_size": dict(self.crop_size), "do_pad": self.do_pad}
        return {**copy.deepcopy(self._extra), **written, **named, "do_center_crop": self.do_center_crop}

    def to_json_string(self) -> str:
        """`to_dict` as JSON text, ended by a new line."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write `to_json_string` to a file, aside and renamed. Raises Unwritable."""
        write_whole(Path(json_file_path), self.to_json_string())

    @classmethod
    def from_dict(cls, image_processor_dict: Mapping[str, Any], **options: Any) -> Any:
        """From the content of a preprocessor_config.json; `options` go over it.

        With `return_unused_kwargs=True` those that are no options come back beside the processor.
        """
        give_back = options.pop("return_unused_kwargs", False)
        known = {*DEFAULTS, *WITHOUT_EFFECT, *image_processor_dict}
        values = {name: value for name, value in image_processor_dict.items() if name not in _TYPE_NAMES}
        changes = {name: value for name, value in options.items() if name in known}
        processor = cls(**{**copy.deepcopy(values), **changes})
        unused = {name: value for name, value in options.items() if name not in known}
        return (processor, unused) if give_back else processor

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        """From a preprocessor_config.json. Raises NotFound or BadConfig, naming the file."""
        return cls.from_dict(_image_section(read_settings(Path(json_file))))

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The image settings of a checkpoint, and those of `kwargs` that didn't say where it lies."""
        path = Path(pretrained_model_name_or_path).expanduser()
        where = {name: kwargs.pop(name) for name in WHERE if name in kwargs}
        if path.is_file():
            return _image_section(read_settings(path)), kwargs
        needed = (*IMAGE_SETTINGS, CONFIG)
        folder = settings_folder(pretrained_model_name_or_path, needed, **where)
        return image_settings_in(folder), kwargs

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str = "",
        **options: Any,
    ) -> Any:
        """The image processor of a checkpoint: from preprocessor_config.json or processor_config.json.

        The arguments say where it lies, as those of `BridgeTowerConfig.from_pretrained`; `options` go over what the
        file says, as in `from_dict`. A size that no file names is that of config.json's `image_size`.

        Raises:
            NotFound: No such folder or file.
            UnknownModel: No checkpoint of that name.
            Offline: The hub is needed and can't be asked.
            DownloadFailed: The hub refused.
            BadConfig: The file is broken or has an impossible value.
        """
        where = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        values, options = cls.get_image_processor_dict(pretrained_model_name_or_path, **where, **options)
        return cls.from_dict(values, **options)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """Write preprocessor_config.json, which `transformers` reads, into a folder; its path, in a list.

        Raises:
            Unwritable: The folder can't be written.
            Misuse: `push_to_hub`.
        """
        refuse_push(push_to_hub)
        path = made_folder(save_directory) / IMAGE_SETTINGS[0]
        self.to_json_file(path)
        return [str(path)]

    def __eq__(self, other: object) -> bool:
        """Whether the other processor writes the same settings."""
        if not isinstance(other, BridgeTowerImageProcessor):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


class BridgeTowerImageProcessorPil(BridgeTowerImageProcessor):
    """`BridgeTowerImageProcessor` by the name that the port gives its Pillow path; here the two are one."""


_TYPE_NAMES = ("image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "pipeline")


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file of settings. Raises NotFound or BadConfig, naming the file."""
    return read_json_object(path, BadConfig, way_out="fetch the file again", limit=SETTINGS)


def image_settings_in(folder: Path) -> dict[str, Any]:
    """The image settings of a checkpoint's folder, its own `image_size` where they name none."""
    settings: dict[str, Any] = {}
    for name in IMAGE_SETTINGS:
        if (folder / name).is_file():
            settings = _image_section(read_settings(folder / name))
            break
    if settings.get("size") is None and settings.get("image_size") is None and (folder / CONFIG).is_file():
        vision = read_settings(folder / CONFIG).get("vision_config")
        native = vision.get("image_size") if isinstance(vision, dict) else None
        if native is not None:
            settings["image_size"] = min(native) if isinstance(native, list) and native else native
    return settings


def _image_section(settings: dict[str, Any]) -> dict[str, Any]:
    section = settings.get("image_processor")
    return section if isinstance(section, dict) else settings


def flat_images(images: Any, input_format: str | None) -> Iterable[Any]:
    """Every image of a nested list in its order; arrays come as (3, h, w) where they aren't bytes, else (h, w, c)."""
    if isinstance(images, (list, tuple)):
        for each in images:
            yield from flat_images(each, input_format)
    elif hasattr(images, "__array__") and not isinstance(images, Image.Image):
        array = _array(images)
        if array.ndim == 4:
            for each in array:
                yield _channels_told(each, input_format)
        else:
            yield _channels_told(array, input_format)
    elif isinstance(images, str) and images.startswith(("http://", "https://")):
        raise Misuse(f"{images:.200}: addresses are not fetched; download the image and pass its path")
    else:
        yield images


def _array(images: Any) -> NDArray[Any]:
    if not hasattr(images, "detach"):
        return np.asarray(images)
    tensor = images.detach().cpu()
    array: NDArray[Any] = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    return array


def _channels_told(array: NDArray[Any], input_format: str | None) -> NDArray[Any]:
    """Bytes as (h, w), (h, w, 3) or (h, w, 4), which Pillow takes; other numbers as (3, h, w)."""
    if array.ndim == 3:
        channels = (1, 3, 4)
        first, last = array.shape[0] in channels, array.shape[-1] in channels
        if input_format is None and first and last:
            logger.warning("an array of shape %s is taken as channels_first; input_data_format tells", array.shape)
        if input_format == "channels_first" or (input_format is None and first):
            array = np.moveaxis(array, 0, -1)
        elif input_format is None and not last:
            raise Misuse(f"an array of shape {array.shape} has no axis of 1, 3 or 4 channels; pass input_data_format")
        if array.shape[-1] == 1:
            array = array[..., 0]
    if array.dtype == np.uint8:
        return array
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif" or array.shape[2:] not in ((), (3,)):
        raise Misuse(f"{array.dtype} {array.shape} is no image; grey or RGB numbers, or bytes, are")
    return np.stack([array] * 3) if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _pixels(processor: ImageProcessor, image: Any) -> NDArray[Any]:
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        settings = processor.settings
        if settings.do_rescale and image.size and image.dtype.kind == "f" and float(np.abs(image).max()) <= 1:
            logger.warning("an array of values within 0..1 is rescaled, too; pass do_rescale=False if it was already")
        return processor.values(image)
    pixels = processor(image)
    plain = not processor.settings.do_rescale and not processor.settings.do_normalize
    return pixels.astype(np.uint8) if plain else pixels


def _padded(
    pixels: list[NDArray[Any]], size: Mapping[str, int] | None
) -> tuple[list[NDArray[Any]], list[NDArray[np.int64]]]:
    """To the largest height and width, or to `size`; and the masks."""
    if size is None:
        values, mask = pad_batch(pixels)
        return list(values.astype(pixels[0].dtype, copy=False)), list(mask)
    height, width = (size.get(name, size.get("shortest_edge", 0)) for name in ("height", "width"))
    tallest, widest = max(each.shape[1] for each in pixels), max(each.shape[2] for each in pixels)
    if height < tallest or width < widest:
        raise Misuse(f"pad_size is {height} x {width}, and an image has {tallest} x {widest} pixels; make it larger")
    values, mask = pad_batch([*pixels, np.zeros((3, height, width), np.float32)])
    return list(values[:-1].astype(pixels[0].dtype, copy=False)), list(mask[:-1])


def _chosen(processor: BridgeTowerImageProcessor, options: Mapping[str, Any], name: str) -> Any:
    """A call's option, the processor's own where it is absent or None."""
    value = options.get(name)
    return getattr(processor, name) if value is None else value


def _size(value: Any, *, square: bool) -> SizeDict:
    """A number, a pair (height, width) or a mapping, as a mapping; a number is `shortest_edge`, `square` both sides."""
    if isinstance(value, Mapping):
        return SizeDict({name: side for name, side in value.items() if side is not None})
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return SizeDict(height=value[0], width=value[1])
    if hasattr(value, "shortest_edge"):
        names = ("height", "width", "shortest_edge", "longest_edge")
        return _size({name: getattr(value, name, None) for name in names}, square=square)
    return SizeDict(height=value, width=value) if square else SizeDict(shortest_edge=value)


def _resampling(value: Any) -> Any:
    name = getattr(value, "value", value)
    if isinstance(name, str) and name.upper() in Image.Resampling.__members__:
        return Image.Resampling[name.upper()]
    try:
        return Image.Resampling(name) if not isinstance(name, bool) else name
    except ValueError:
        return name  # refused, by name, where the settings are made


def _numbers(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _format(name: str, value: Any) -> str | None:
    value = getattr(value, "value", value)
    if value not in (None, "none", *_FORMATS):
        raise Misuse(f"{name} is {value!r:.100}; one of {', '.join(_FORMATS)} is needed")
    return None if value == "none" else value
