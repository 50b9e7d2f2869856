"""Upright RGB images to the network's pixel values, by the rules of preprocessor_config.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import BadConfig, UnreadableImage
from bt_cli.preprocessing.image_settings import ImageSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from bt_cli.preprocessing.image_file import DecodedImage, ImageSource, Reserve

_REVISION = 1
"""Counts changes of this file that change pixels, so that an old index is told apart from a new one."""

_REDUCING_GAP = 3.0
"""Where exactness isn't asked for, an image at least twice this many times too large is averaged in whole blocks to at
least this many times the size before the filter runs. Pillow calls a result at 3 hard to tell from one pass."""


class ImageProcessor:
    """Resizes, crops and normalises images, to the bit as `transformers`' Pillow path does where that works.

    Two pipelines. "crop" (the hub's checkpoints): shorter side to `size`, longer side at most 1333/800 of that, both
    floored to a multiple of `size_divisor`, then the centre of `crop_size`, padded with black where smaller. "squash"
    (the paper's retrieval): straight to (height, width), whatever the proportions. Both bicubic unless configured.

    An instance holds no changing state: threads may share it.
    """

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        self._tables = _normalisation_tables(settings)

    @classmethod
    def from_dict(
        cls,
        preprocessor_config: Mapping[str, Any] | None = None,
        image_size: int | None = None,
        *,
        pipeline: str | None = None,
    ) -> ImageProcessor:
        """From the content of preprocessor_config.json, every key of which may be missing.

        Args:
            preprocessor_config: The file's object; keys that mean nothing here are kept for `to_dict`.
            image_size: Pixels per side where the object names none, as a checkpoint's config.json has them.
            pipeline: "crop" or "squash", over what the object says.

        Raises:
            BadConfig: An impossible value, by name.
        """
        return cls(ImageSettings.from_dict(preprocessor_config or {}, image_size, pipeline=pipeline))

    def to_dict(self) -> dict[str, Any]:
        """What preprocessor_config.json should hold: read by `from_dict` and by `transformers` to the same pixels."""
        return self.settings.to_dict()

    def fingerprint(self) -> str:
        """16 hex digits that change when the pixels of some image would."""
        effective = {"revision": _REVISION, **self.settings.effective()}
        return hashlib.blake2b(json.dumps(effective, sort_keys=True).encode(), digest_size=8).hexdigest()

    def __repr__(self) -> str:
        return f"ImageProcessor({self.settings.describe()})"

    @property
    def output_size(self) -> tuple[int, int] | None:
        """(height, width) of every result, None where it depends on the image (no crop, or no resize)."""
        if self.settings.do_center_crop:
            return self.settings.crop_size
        return self.settings.size if self.settings.do_resize and self.settings.pipeline == "squash" else None

    def draft_side(self) -> int | None:
        """Shorter side, in pixels, at which a draft of an image is as good as the whole: for `open_image(draft=...)`.

        Twice what the resize ends at. Against the whole image, pixels then differ by 0.2 to 0.7 levels of 255 (root
        mean square, photographs of 12 megapixels; saving at JPEG quality 95 costs 3 to 5), at a quarter of the time.
        None where images aren't resized, so that every pixel counts.
        """
        return 2 * max(self.settings.size) if self.settings.do_resize else None

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to, before the crop."""
        settings = self.settings
        if not settings.do_resize:
            return height, width
        if settings.pipeline == "squash":
            return settings.size
        return _proportional_size(height, width, settings.size[0], settings.size_divisor)

    def resized(self, image: ImageSource, *, exact: bool = True) -> Image.Image:
        """The image that the network will see, before normalising: RGB, resized and cropped.

        With `exact` off, images far larger than needed are decoded as drafts and first reduced by a whole factor:
        several times faster, as close to the exact pixels as `draft_side` says. All others are exact anyway.
        """
        return self._resized(self.decoded(image, exact=exact), exact)

    def decoded(
        self, image: ImageSource, *, exact: bool = True, name: str | None = None, reserve: Reserve | None = None
    ) -> DecodedImage:
        """The image as `pixels` takes it: whole, or a draft where `exact` is off and the file large enough.

        `reserve` is told how many bytes that will take before it does, and may wait.

        Raises:
            UnreadableImage: `image` is a path, bytes or an array that is no image; `name` is what the message calls it.
        """
        from bt_cli.preprocessing.image_file import decode_image

        return decode_image(image, draft=None if exact else self.draft_side(), name=name, reserve=reserve)

    def pixels(
        self, decoded: DecodedImage, *, out: NDArray[np.float32] | None = None, exact: bool = True
    ) -> NDArray[np.float32]:
        """A decoded image to (3, h, w) float32, contiguous; into `out` where given (of exactly that shape)."""
        levels = np.asarray(self._resized(decoded, exact))
        shape = (3, *levels.shape[:2])
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {out.shape}, float32 {shape} is needed")
        for channel in range(3):
            # mode="clip" spares numpy a buffer; 8-bit indices can't leave a table of 256 anyway.
            np.take(self._tables[channel], levels[..., channel], out=out[channel], mode="clip")
        return out

    def __call__(
        self, image: ImageSource, *, out: NDArray[np.float32] | None = None, exact: bool = True
    ) -> NDArray[np.float32]:
        """One image to (3, h, w) float32: `pixels` of what `decoded` gives.

        Raises:
            UnreadableImage: `image` is a path, bytes or an array that is no image.
        """
        return self.pixels(self.decoded(image, exact=exact), out=out, exact=exact)

    def values(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """An image as numbers (3, h, w) that aren't bytes, such as a tensor of 0 to 1, to (3, h, w) float32.

        Where it is resized, numbers from 0 to 1 that aren't all whole become 8-bit levels for that, cut off below, and
        0 to 1 again, as in the port; whole ones from 0 to 255 are taken as levels. Without resizing nothing is rounded.

        Raises:
            UnreadableImage: Not all are finite, or it is resized and they are outside these ranges.
        """
        from PIL import Image

        from bt_cli.preprocessing.image_file import decode_image

        settings = self.settings
        if not np.isfinite(numbers).all():
            raise UnreadableImage(f"array: {numbers.dtype} with values that are infinite or no numbers is no image")
        if settings.do_resize:
            levels, unit = _levels(numbers)
            image = Image.fromarray(np.ascontiguousarray(np.moveaxis(levels, 0, -1)))
            decoded = decode_image(image)
            tables = _normalisation_tables(settings, unit=unit)
            resized = np.moveaxis(np.asarray(self._resized(decoded, exact=True)), -1, 0)
            return np.stack([table[channel] for table, channel in zip(tables, resized, strict=True)])
        if settings.do_center_crop:
            numbers = _centre_crop_of_numbers(numbers, *settings.crop_size)
        if settings.do_rescale:
            numbers = numbers.astype(np.float64) * settings.rescale_factor
        return _normalised(numbers.astype(np.float32), settings)

    def _resized(self, decoded: DecodedImage, exact: bool) -> Image.Image:
        image = decoded.image
        # By the whole image's size: a draft's is rounded, which can cost a cell.
        height, width = self.resized_size(decoded.height, decoded.width)
        if (height, width) != (image.height, image.width):
            from PIL import Image

            resample = Image.Resampling(self.settings.resample)
            gap = None if exact else _REDUCING_GAP
            image = image.resize((width, height), resample, box=decoded.box, reducing_gap=gap)
        if self.settings.do_center_crop:
            image = _centre_crop(image, *self.settings.crop_size)
        return image

    def batch(self, images: Sequence[ImageSource]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images to `(pixel_values (n, 3, H, W) float32, pixel_mask (n, H, W) int64)`.

        Smaller ones are padded at the bottom and right with zeros, after normalising; the mask is 1 where the image is.
        """
        if self.output_size is not None:
            height, width = self.output_size
            values = np.empty((len(images), 3, height, width), np.float32)
            for image, row in zip(images, values, strict=True):
                self(image, out=row)
            return values, np.ones((len(images), height, width), np.int64)
        return pad_batch([self(image) for image in images])


def pad_batch(pixels: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Arrays (3, h, w) of any sizes to one batch and its mask, as `ImageProcessor.batch` gives them."""
    height = max((each.shape[1] for each in pixels), default=0)
    width = max((each.shape[2] for each in pixels), default=0)
    values = np.zeros((len(pixels), 3, height, width), np.float32)
    mask = np.zeros((len(pixels), height, width), np.int64)
    for row, each in enumerate(pixels):
        values[row, :, : each.shape[1], : each.shape[2]] = each
        mask[row, : each.shape[1], : each.shape[2]] = 1
    return values, mask


def _proportional_size(height: int, width: int, shorter: int, divisor: int) -> tuple[int, int]:
    """The crop pipeline's size rule, in the port's order of float operations, with at least one cell per side."""
    longer = int(1333 / 800 * shorter)
    scale = shorter / min(height, width)
    new_height, new_width = (shorter, scale * width) if height < width else (scale * height, shorter)
    if max(new_height, new_width) > longer:
        scale = longer / max(new_height, new_width)
        new_height, new_width = scale * new_height, scale * new_width
    rounded_height, rounded_width = int(new_height + 0.5), int(new_width + 0.5)
    return (
        max(rounded_height // divisor * divisor, divisor),
        max(rounded_width // divisor * divisor, divisor),
    )


def _centre_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """The centre (height, width) of the image, on black where it is smaller.

    Rounding is the port's: an odd pixel too many goes at the bottom right, one too few at the top left.
    """
    top, left = (image.height - height) // 2, (image.width - width) // 2
    # Pillow fills what lies outside the image with black.
    return image.crop((left, top, left + width, top + height))


def _centre_crop_of_numbers(numbers: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """`_centre_crop` of an array (c, h, w), zero outside."""
    top, left = (numbers.shape[1] - height) // 2, (numbers.shape[2] - width) // 2
    cropped = np.zeros((numbers.shape[0], height, width), numbers.dtype)
    inside = numbers[:, max(top, 0) : top + height, max(left, 0) : left + width]
    row, column = max(-top, 0), max(-left, 0)
    cropped[:, row : row + inside.shape[1], column : column + inside.shape[2]] = inside
    return cropped


def _levels(numbers: NDArray[Any]) -> tuple[NDArray[np.uint8], bool]:
    """Numbers as 8-bit levels, and whether they were from 0 to 1."""
    low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
    whole = np.allclose(numbers, numbers.astype(np.int64))
    if low >= 0 and high <= (255 if whole else 1):
        levels = numbers if whole else (numbers.astype(np.float64) * 255).astype(np.float32)
        return levels.astype(np.uint8), not whole
    raise UnreadableImage(
        f"array: {numbers.dtype} from {low:g} to {high:g} can't be resized as an image; "
        "it has to be from 0 to 1, or whole numbers from 0 to 255"
    )


def _normalisation_tables(settings: ImageSettings, *, unit: bool = False) -> NDArray[np.float32]:
    """(3, 256) float32: what each 8-bit value of a channel becomes; with `unit` it stands for that part of 255.

    (u8 -> float64) * factor -> float32, then (x - mean) / std in float32: this order alone gives the port's bits. A
    look-up of 256 values gives the same bits as the arithmetic on every pixel, eight times faster.
    """
    values = np.arange(256, dtype=np.float64)
    if unit:
        values = (values * (1 / 255)).astype(np.float32).astype(np.float64)
    if settings.do_rescale:
        values = values * settings.rescale_factor
    tables = np.repeat(values.astype(np.float32)[None, :, None], 3, axis=0)
    return np.ascontiguousarray(_normalised(tables, settings)[:, :, 0])


def _normalised(values: NDArray[np.float32], settings: ImageSettings) -> NDArray[np.float32]:
    """(3, h, w) less the mean, by the deviation of each channel; as it is where the settings say so."""
    if settings.do_normalize:
        with np.errstate(all="ignore"):  # looked at below
            mean = np.array(settings.image_mean, np.float32)[:, None, None]
            std = np.array(settings.image_std, np.float32)[:, None, None]
            values = (values - mean) / std
    if not np.isfinite(values).all():
        raise BadConfig("preprocessor_config.json: image_mean, image_std and rescale_factor leave the range of float32")
    return values
