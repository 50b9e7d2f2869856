"""What cameras and phones write into a picture about the shot: EXIF, and XMP where EXIF is silent.

Nothing here raises or warns: a block that is broken, or says what can't be (the 31st of February, 91 degrees north),
says nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image

from bt_cli.files.photo_facts import PhotoFacts, clock_milliseconds

_CAMERA = ((0x010F, "tiff:Make"), (0x0110, "tiff:Model"))  # EXIF 2.32, section 4.6.4
_EXIF, _GPS = 0x8769, 0x8825
_CLOCKS = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
"""Time, its fraction of a second and its offset: of the shot (Original), else of its scan (Digitized). DateTime
(0x0132) is not among them: whoever last saved the file may have written that."""
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4

_XMP_BYTES = 1 << 20
_XMP_CLOCKS = ("exif:DateTimeOriginal", "exif:DateTimeDigitized", "photoshop:DateCreated", "xmp:CreateDate")
_TIME = re.compile(
    r"\s*(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[T ]+(\d\d?):(\d\d?)(?::(\d\d?)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?\s*"
)
_OFFSET = re.compile(r"\s*(?:(Z)|([+-])(\d\d):?(\d\d))\s*")
_XMP_DEGREES = re.compile(r"\s*(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?\s*([NSEWnsew])\s*")
_WIDEST_OFFSET = 15 * 60
_LONGEST_NAME = 100
_COMPANY = re.compile(
    r"[,\s]+(?:corporation|corp|company|co|ltd|inc|gmbh|imaging|optical|electric|electronics|technologies)\b\.?", re.I
)


def photo_facts(image: Image.Image) -> PhotoFacts:
    """What an opened image says of the shot; no pixel is decoded, but of a PNG that may have its EXIF behind them."""
    try:
        exif = image.getexif()
    except Exception:  # Pillow raises nearly everything over broken blocks
        exif = Image.Exif()
    xmp = _xmp(image)
    taken, offset = _taken(_block(exif, _EXIF))
    if taken is None:
        taken, offset = _first_time(xmp)
    latitude, longitude = _place(_block(exif, _GPS))
    if latitude is None:
        latitude, longitude = _xmp_place(xmp)
    make, model = (_name(_value(exif, tag)) or _name(xmp(key)) for tag, key in _CAMERA)
    return PhotoFacts(taken, offset, _camera(make, model), latitude, longitude)


def _block(exif: Image.Exif, tag: int) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:
        return {}


def _value(block: Any, tag: int) -> Any:
    try:
        return block.get(tag)
    except Exception:
        return None


def _taken(block: Mapping[int, Any]) -> tuple[int | None, int | None]:
    for tag, fraction, offset in _CLOCKS:
        taken, stated = _time(_text(_value(block, tag)), _text(_value(block, fraction)))
        if taken is not None:
            found = _offset(_text(_value(block, offset)))
            return taken, stated if found is None else found
    return None, None


def _time(text: str, fraction: str = "") -> tuple[int | None, int | None]:
    """Milliseconds on the clock, and the offset where the text itself states one."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None, None
    year, month, day, hour, minute = (int(found[group]) for group in range(1, 6))
    digits = found[7] or (fraction.strip() if fraction.strip().isdecimal() else "")
    try:
        moment = datetime(year, month, day, hour, minute, int(found[6] or 0))
        return clock_milliseconds(moment) + int((digits + "000")[:3]), _offset(found[8] or "")
    except ValueError:
        return None, None


def _offset(text: str) -> int | None:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    if found[1]:
        return 0
    minutes = int(found[3]) * 60 + int(found[4])
    return (-minutes if found[2] == "-" else minutes) if minutes <= _WIDEST_OFFSET and int(found[4]) < 60 else None


def _place(block: Mapping[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(_value(block, _LATITUDE), _text(_value(block, _LATITUDE_REF)), "NS", 90)
    longitude = _degrees(_value(block, _LONGITUDE), _text(_value(block, _LONGITUDE_REF)), "EW", 180)
    return _both(latitude, longitude)


def _both(latitude: float | None, longitude: float | None) -> tuple[float | None, float | None]:
    """Half a place is none, and neither is 0, 0: what cameras write that have not found out where they are."""
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _degrees(parts: Any, side: str, sides: str, most: int) -> float | None:
    """Degrees, minutes and seconds as one number; without the letter of its side its sign is not known."""
    letter = side.strip("\0 ").upper()[:1]
    if not letter or letter not in sides:
        return None
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not 1 <= len(numbers) <= 3 or not all(map(math.isfinite, numbers)) or min(numbers) < 0:
        return None
    degrees, minutes, seconds = (*numbers, 0.0, 0.0)[:3]
    total = degrees + minutes / 60 + seconds / 3600
    if minutes > 60 or seconds > 60 or total > most:
        return None
    return -total if letter == sides[1] and total else total


def _text(value: Any) -> str:
    """A tag's text up to its first NUL; Pillow reads bytes as Latin-1, and phones write UTF-8."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    value = value.split("\0", 1)[0]
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _name(value: Any) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in _text(value))
    return " ".join(text.split())[:_LONGEST_NAME]


def _camera(make: str, model: str) -> str | None:
    """`Canon EOS 5D`, `Apple iPhone 12`: what kind of company it is, and the make where the model repeats it, go."""
    if not model:
        return make or None
    short = _COMPANY.sub("", make).strip(" ,.")
    if not short or model.lower().split()[0] == short.lower().split()[0]:
        return model
    return f"{short} {model}"


class _Properties:
    """An XMP packet's simple properties, by name. They are looked for as text: the packet is XML of whatever sender."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, name: str) -> str:
        if name not in self.text:
            return ""
        found = re.search(rf"""\b{name}\s*=\s*(?:"([^"<]*)"|'([^'<]*)')|<{name}>([^<]*)<""", self.text)
        value = next((group for group in found.groups() if group is not None), "") if found else ""
        for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
            value = value.replace(entity, letter)
        return value


def _xmp(image: Image.Image) -> _Properties:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        return _Properties(packet[:_XMP_BYTES])
    return _Properties(packet[:_XMP_BYTES].decode("utf-8", "replace") if isinstance(packet, bytes) else "")


def _first_time(xmp: _Properties) -> tuple[int | None, int | None]:
    for name in _XMP_CLOCKS:
        taken, offset = _time(xmp(name))
        if taken is not None:
            return taken, offset
    return None, None


def _xmp_place(xmp: _Properties) -> tuple[float | None, float | None]:
    def degrees(name: str, sides: str, most: int) -> float | None:
        found = _XMP_DEGREES.fullmatch(xmp(name))
        return _degrees([found[1], found[2], found[3] or 0], found[4], sides, most) if found else None

    return _both(degrees("exif:GPSLatitude", "NS", 90), degrees("exif:GPSLongitude", "EW", 180))
