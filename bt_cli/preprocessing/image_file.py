"""Any image file to an upright 8-bit RGB image."""

from __future__ import annotations

import ctypes
import importlib
import io
import logging
import os
import stat
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, Union, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from bt_cli.errors import BadConfig, UnreadableImage
from bt_cli.files.bounded_read import at_most
from bt_cli.files.foreign_format import foreign_format
from bt_cli.files.image_format import EXTRA, HEAD, READERS, image_format
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.files.plain_file import is_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.preprocessing import damaged_image, raw_file
from bt_cli.preprocessing.exif import photo_facts
from bt_cli.preprocessing.pillow_settings import pillow_settings
from bt_cli.preprocessing.rgb_image import rgb_image
from bt_cli.sources.member import read_member
from bt_cli.sources.web_address import is_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

ImageSource = Union[str, Path, bytes, "os.PathLike[str]", Image.Image, "NDArray[Any]"]
"""A path, or an address on the web (see `web_image`); the bytes of an image file; a Pillow image; a uint8 array (H, W),
(H, W, 3) or (H, W, 4)."""

PIXEL_LIMIT = 178_956_970
"""Pixels beyond which a file counts as a decompression bomb: Pillow's own hard limit. BT_MAX_PIXELS sets another."""

BYTE_LIMIT = 4 << 30
"""Bytes beyond which a file is not read."""

Reserve = Callable[[int], None]
"""Told how many bytes decoding will take, once the header is read and before a pixel is; may wait."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_RIGHT_TO_LEFT = (2, 3, 6, 7)  # turning brings the stored right or bottom edge to the left
_BOTTOM_TO_TOP = (3, 4, 7, 8)
_Read = TypeVar("_Read")
_PILLOW_LOCKS = [threading.Lock() for _ in range(256)]  # by id: Pillow images have no hash
_ORIENTATION = 0x0112  # EXIF 2.3, section 4.6.4
_WHOLE_FILE_FORMATS = ("AVIF", "HEIF", "JPEG2000", "JXL", "WEBP")  # their decoders hold the image once more

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what no handler takes


class ImageBytes(bytes):
    """The bytes of an image file that came without a path, and what messages call it.

    Attributes:
        name: As a person would recognise it.
    """

    name: str

    def __new__(cls, data: bytes, name: str) -> ImageBytes:
        made = super().__new__(cls, data)
        made.name = name
        return made


class DecodedImage(NamedTuple):
    """An image and the size that its file has."""

    image: Image.Image
    """Mode RGB, upright; smaller than the file's where a draft was enough."""
    width: int
    """Pixels of the whole upright image."""
    height: int
    box: tuple[float, float, float, float]
    """(left, top, right, bottom) of these pixels that the whole image covers. A draft at half size of 1501 pixels has
    751, of which the image covers 750.5: without this, resizing would shift it."""
    missing: float = 0.0
    """Share of the rows, at the end of the file, that a truncated JPEG lacks; they are filled in by its decoder."""
    facts: PhotoFacts = PhotoFacts()
    """When, with what and where it was taken."""


def open_image(source: ImageSource, *, draft: int | None = None, name: str | None = None) -> Image.Image:
    """Decodes an image to mode RGB, upright as its EXIF orientation says, first frame of an animation.

    Transparency is laid on white. Greyscale of more than 8 bits is scaled as `_narrow` says. Colour profiles are not
    applied. Of a camera's raw file the embedded preview is taken. A JPEG that ends too early is taken while it lacks at
    most `damaged_image.MOST_MISSING` of its rows. RGB images without orientation come back as they are, uncopied.

    Args:
        source: What to open, see `ImageSource`.
        draft: Shorter side, in pixels, that is enough for what follows. A JPEG may then be decoded at 1/2, 1/4 or 1/8
            of its size as long as its shorter side stays at least that long: much faster, almost the same pixels.
            None decodes in full.
        name: What messages call the image; its path where there is one.

    Raises:
        UnreadableImage: Missing, no image, truncated, too many pixels, a folder, not permitted. One line.
    """
    return decode_image(source, draft=draft, name=name).image


def decode_image(
    source: ImageSource, *, draft: int | None = None, name: str | None = None, reserve: Reserve | None = None
) -> DecodedImage:
    """`open_image`, for those who also need the size of the whole image, or to be asked before memory is used."""
    reserve = reserve or (lambda size: None)
    if isinstance(source, Image.Image):
        return _guarded(lambda: _from_pillow(source), name or "image")
    if isinstance(source, np.ndarray):
        return _upright_rgb(_from_array(source, name or "array"), None)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        called = shown_path(source.name) if isinstance(source, ImageBytes) else "image"
        return _guarded(lambda: _decode(io.BytesIO(data), draft, reserve), name or called)
    if not isinstance(source, (str, os.PathLike)):
        raise UnreadableImage(f"{name or 'image'}: {type(source).__name__} is neither a path nor an image")
    path = os.fspath(source)

    def decode_file() -> DecodedImage:
        with _open_file(path) as file:
            return _decode(file, draft, reserve)

    return _guarded(decode_file, name or shown_path(path))


def image_size(source: bytes) -> tuple[int, int]:
    """Width and height as an image file's head states them: nothing is decoded, no orientation is applied.

    Raises:
        UnreadableImage: As `open_image`, for what the head shows.
    """

    def read() -> tuple[int, int]:
        with _identify(io.BytesIO(source)) as image:
            return image.size

    return _guarded(read, shown_path(source.name) if isinstance(source, ImageBytes) else "image")


def read_image_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file, for whoever needs to hash and decode the same content.

    Raises:
        UnreadableImage: As `open_image`; one that is clearly no image is refused before it is read whole.
    """

    def read() -> bytes:
        with _open_file(os.fspath(path)) as file:
            if not isinstance(file, io.BytesIO) and os.fstat(file.fileno()).st_size > 64 << 20:
                _identify(file).close()
                file.seek(0)
            return _read_bounded(file)

    return _guarded(read, shown_path(path))


def read_photo_facts(path: str | os.PathLike[str], *, reserve: Reserve | None = None) -> PhotoFacts:
    """What an image file says of the shot, as `decode_image` finds it, from its head alone where that has it; nothing
    of a file that can't be read. A PNG may have its EXIF behind the pixels, so that one without it ahead is decoded:
    `reserve` is told of that as it is by `decode_image`."""
    reserve = reserve or (lambda size: None)

    def read() -> PhotoFacts:
        with _open_file(os.fspath(path)) as file:
            try:
                with _identify(file) as image:
                    if not raw_file.is_raw(image):
                        if image.format == "PNG" and "exif" not in image.info:
                            reserve(_decoding_bytes(image, image.width * image.height))
                        return photo_facts(image)
            except raw_file.NeedsRawReader:
                pass
            file.seek(0)
            return _decode(file, None, reserve).facts

    try:
        return _guarded(read, "")
    except UnreadableImage:
        return PhotoFacts()


def read_stream(file: IO[bytes], name: str) -> bytes:
    """What is left of an open file, of at most `BYTE_LIMIT` bytes; `name` is what messages call it.

    Raises:
        UnreadableImage: There is more, or it can't be read.
    """
    return _guarded(lambda: _read_bounded(file), name)


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether the first bytes of a file are those of an image that can be opened here; false where it can't be read."""

    def identify() -> bool:
        with _open_file(os.fspath(path)) as file:
            _identify(file).close()
        return True

    try:
        return _guarded(identify, "")
    except UnreadableImage:
        return False


def pixel_limit() -> int | None:
    """The most pixels an image may have: BT_MAX_PIXELS (0 = no limit), else `PIXEL_LIMIT`.

    Raises:
        BadConfig: BT_MAX_PIXELS is no number.
    """
    text = os.environ.get("BT_MAX_PIXELS", "").strip().replace("_", "")
    if not text:
        return PIXEL_LIMIT
    if not (text.isascii() and text.isdigit()):
        raise BadConfig(f"BT_MAX_PIXELS={text}: a whole number of pixels is needed, 0 for no limit")
    return int(text) or None


def _guarded(work: Callable[[], _Read], name: str) -> _Read:
    """Runs `work`; whatever goes wrong in reading an image becomes one line that starts with `name`."""
    try:
        with pillow_settings(pixel_limit() if os.environ.get("BT_MAX_PIXELS") else 0):
            return work()
    except UnreadableImage as error:
        raise UnreadableImage(f"{name}: {error}") from error.__cause__
    except BadConfig:
        raise
    # Pillow's readers raise nearly everything over broken files: struct.error, SyntaxError, KeyError, ValueError ...
    except Exception as error:
        raise UnreadableImage(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "not permitted to read it"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the {pixel_limit() or PIXEL_LIMIT:,} allowed; BT_MAX_PIXELS raises the limit"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    # The first sentence alone: some decoders go on with advice for whoever builds them.
    detail = " ".join(str(getattr(error, "strerror", None) or error).split()).partition(". ")[0]
    return f"broken image: {detail[:200] or type(error).__name__}"


def _open_file(path: str) -> IO[bytes]:
    if is_url(path):
        from bt_cli.sources.remote_image import read_remote

        return io.BytesIO(read_remote(path).content)
    try:
        status = os.stat(path)
    except NotADirectoryError:  # a path that leads into a container
        return io.BytesIO(read_member(path))
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("a folder, not an image")
    if stat.S_ISFIFO(status.st_mode):  # a shell's <(...)
        with open(path, "rb") as pipe:
            return io.BytesIO(_read_bounded(pipe))
    if not is_plain(status):
        raise UnreadableImage("not a regular file")
    return open(path, "rb", opener=_open_without_waiting)


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens what was a plain file a moment ago; a pipe that has taken its place is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_bounded(file: IO[bytes]) -> bytes:
    content = at_most(file, BYTE_LIMIT)
    if len(content) > BYTE_LIMIT:
        raise UnreadableImage(f"more than {BYTE_LIMIT >> 30} GiB, the most that is read of a file")
    return content


def _decode(file: IO[bytes], draft: int | None, reserve: Reserve) -> DecodedImage:
    try:
        with _identify(file) as image:
            if raw_file.is_raw(image):
                return _decode_raw(file, draft, reserve, image)
            try:
                return _upright_rgb(image, draft, reserve)
            except OSError as error:
                if image.format not in ("JPEG", "MPO") or "truncated" not in str(error):
                    raise
    except raw_file.NeedsRawReader:
        return _decode_raw(file, draft, reserve, None)
    except ValueError as error:
        if "MAX_TEXT" not in str(error):
            raise
        file.seek(0)
        return _decode(io.BytesIO(damaged_image.without_long_texts(_read_bounded(file))), draft, reserve)
    file.seek(0)
    return _decode_truncated(_read_bounded(file), draft, reserve)


def _decode_truncated(data: bytes, draft: int | None, reserve: Reserve) -> DecodedImage:
    """A JPEG that ends before its end mark."""

    def stored(ended: bytes) -> Image.Image:
        image = _identify(io.BytesIO(ended))
        if draft is not None:
            _draft(image, draft)
        image.load()
        return image

    missing = damaged_image.missing_share(data, stored)
    if missing > damaged_image.MOST_MISSING:
        raise UnreadableImage(
            f"broken image: truncated, the last {missing:.0%} of its rows are missing, and at most "
            f"{damaged_image.MOST_MISSING:.0%} may be"
        )
    with _identify(io.BytesIO(data + damaged_image.END_MARK)) as image:
        return _upright_rgb(image, draft, reserve)._replace(missing=missing)


def _decode_raw(file: IO[bytes], draft: int | None, reserve: Reserve, as_tiff: Image.Image | None) -> DecodedImage:
    """The preview of a camera's raw file; what LibRaw does not know, and Pillow opened, is the image that it is."""
    _require_reader("RAW")
    file.seek(0)
    try:
        preview = raw_file.preview(cast("BinaryIO", file))
    except raw_file.NotRaw:
        if as_tiff is None:
            raise UnreadableImage("not an image that can be read") from None
        return _upright_rgb(as_tiff, draft, reserve)
    with Image.fromarray(preview.pixels) if preview.pixels is not None else _identify(preview.file()) as image:
        decoded = _upright_rgb(image, draft, reserve, turned=preview.orientation)
    stated = PhotoFacts() if as_tiff is None else photo_facts(as_tiff)
    return decoded if stated == PhotoFacts() else decoded._replace(facts=stated)


def _identify(file: IO[bytes]) -> Image.Image:
    """Opens the image by its first bytes, loading the package that its format needs when one turns up.

    Raises:
        NeedsRawReader: It is a camera's raw file, and says so in its first bytes.
    """
    limit = pixel_limit()
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise UnreadableImage("the file is empty")
    name = image_format(head)
    if name == "RAW":
        raise raw_file.NeedsRawReader
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        if name not in ("HEIC", "AVIF", "JPEG XL"):
            foreign = foreign_format(head)
            if foreign is None:
                raise
            raise UnreadableImage(f"not an image that can be read: {foreign}") from None
        _require_reader("HEIC" if name == "AVIF" else name)
        file.seek(0)
        image = Image.open(file)
    width, height = image.size
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError
    return image


def _require_reader(name: str) -> None:
    """Loads the package that a format needs; it tells Pillow of itself.

    Raises:
        UnreadableImage: It is not installed; names the extra.
    """
    try:
        package = importlib.import_module(READERS[name])
    except ImportError:
        raise UnreadableImage(f"{name} needs an extra: pip install '{EXTRA}'") from None
    if name == "HEIC":
        package.register_heif_opener()


@cache
def _silence_libtiff() -> None:
    """Takes libtiff's own error lines from stderr: what it can't decode, Pillow raises anyway.

    The library is told so itself, by the handle that Pillow's extension module has on it. Catching file descriptor 2
    instead would catch other threads' lines, too.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
    except (AttributeError, OSError, TypeError):  # a Pillow without libtiff, or one that hides it
        return


def _upright_rgb(
    image: Image.Image, draft: int | None, reserve: Reserve | None = None, turned: int = 1
) -> DecodedImage:
    """`turned`: the EXIF orientation where the image itself names none."""
    _silence_libtiff()
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage("the image has no pixels")
    factor = _draft(image, draft) if draft is not None else 1
    if reserve is not None:
        reserve(_decoding_bytes(image, width * height))
    image.load()
    if factor == 1:  # after loading, since some formats turn themselves
        width, height = image.size
    # Asked after loading, too: PNG and WebP may carry EXIF behind the pixels.
    facts = photo_facts(image)
    orientation = _orientation(image)
    if orientation not in _UPRIGHT:
        orientation = turned
    upright = rgb_image(image)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
        upright.info.clear()  # or the next reader would find the orientation and turn it again
        if orientation in _SIDEWAYS:
            width, height = height, width
    covered_width, covered_height = width / factor, height / factor
    left = upright.width - covered_width if orientation in _RIGHT_TO_LEFT else 0.0
    top = upright.height - covered_height if orientation in _BOTTOM_TO_TOP else 0.0
    box = left, top, left + covered_width, top + covered_height
    return DecodedImage(upright, width, height, box, facts=facts)


def _decoding_bytes(image: Image.Image, whole: int) -> int:
    """About how many bytes an opened image takes while it becomes RGB; `whole` is its size in pixels before a draft."""
    pixels = image.width * image.height
    if image.mode in ("I", "F"):
        a_pixel = 36  # 64-bit floats in a few steps
    elif image.mode.startswith("I;16"):
        a_pixel = 16
    else:
        a_pixel = 1 if image.mode in ("1", "L", "P") else 4
        if image.mode != "RGB" or "transparency" in image.info or "exif" in image.info:
            a_pixel += 4
    if image.format in _WHOLE_FILE_FORMATS:
        a_pixel += 12
    # A progressive JPEG's coefficients are all held, 16 bits each, whatever the draft.
    coefficients = 2 * len(image.getbands()) * whole if "progressive" in image.info else 0
    return pixels * a_pixel + coefficients


def _draft(image: Image.Image, shorter: int) -> int:
    """Asks a JPEG's decoder for the least size with at least that shorter side; how many times smaller: 1, 2, 4, 8."""
    width, height = image.size
    if image.format not in ("JPEG", "MPO") or shorter * 2 > min(width, height):
        return 1
    side = min(width, height)
    image.draft(None, (width * shorter // side, height * shorter // side))
    return round(width / image.width)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value)
    except Exception:  # a broken EXIF block says nothing about the image
        return 1


def _from_pillow(image: Image.Image) -> DecodedImage:
    """One thread at a time: an opened image reads its file, and its EXIF, when it is first used."""
    with _PILLOW_LOCKS[(id(image) >> 4) % len(_PILLOW_LOCKS)]:
        return _upright_rgb(image, None)


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped or 0 in array.shape:
        raise UnreadableImage(
            f"{name}: {array.dtype} {array.shape} is no image; uint8 (H, W), (H, W, 3) or (H, W, 4) is"
        )
    return Image.fromarray(np.ascontiguousarray(array))
