"""What a request says, checked: JSON of bounded size, fields of the right type, pictures of bounded pixels."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from bt_cli.errors import UnreadableImage
from bt_cli.preprocessing.image_file import ImageBytes
from bt_cli.serving.lanes import Cancelled
from bt_cli.serving.refusals import Refusal, invalid
from bt_cli.serving.settings import Settings

_DATA_URL = re.compile(r"data:(?:image/[\w.+-]+|application/octet-stream)?(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)
PATIENCE = 4
"""Times the largest body that are read, at most, before a connection is closed."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


async def read_json(request: Request, settings: Settings) -> Any:
    """The JSON value of a body.

    Raises:
        Refusal: 415 for another content type (a form of a foreign page can't send this one unasked), 413 for too large
            a body, 408 for one that does not come in time, 400 for what is no JSON.
        Cancelled: The caller went before it was sent.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "invalid_request_error", "send JSON with Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refusal(415, "invalid_request_error", "send the body as it is, without Content-Encoding")
    try:
        body = await asyncio.wait_for(_body(request, settings.body_bytes), settings.body_seconds)
    except TimeoutError:
        raise Refusal(408, "timeout_error", f"the body did not come within {settings.body_seconds:g} s") from None
    except ClientDisconnect:
        raise Cancelled from None
    try:
        return json.loads(body, parse_constant=_no_number, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is no JSON: {str(error)[:120] or type(error).__name__}") from None


async def _body(request: Request, most: int) -> bytes:
    too_large = Refusal(413, "request_too_large", f"the body is larger than {most:,} bytes")
    said = request.headers.get("content-length", "0")
    body, length = bytearray(), 0
    wanted = not (said.isdigit() and int(said) > most)
    async for piece in request.stream():
        length += len(piece)
        wanted = wanted and length <= most
        if wanted:
            body += piece
        else:
            body.clear()
            # Some is read and thrown away: who still sends when the connection is closed never sees the answer.
            if length > PATIENCE * most:
                break
    if not wanted:
        raise too_large
    return bytes(body)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):  # which of the two was meant, nobody knows
        names = [name for name, _ in pairs]
        raise ValueError(f"{_shown(next(name for name in names if names.count(name) > 1))} is given more than once")
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class Fields:
    """A request's named values, from a JSON object or a URL's query, taken out one by one and checked.

    Args:
        values: The object; with `of_url` all values are lists of strings.
        settings: The bounds.
        known: Where given, every other name is refused: a misspelt field must not be passed over.
    """

    def __init__(
        self, values: Any, settings: Settings, *, known: Sequence[str] | None = None, of_url: bool = False
    ) -> None:
        if not isinstance(values, Mapping):
            raise invalid("the body has to be a JSON object")
        self.values, self.settings, self.of_url = values, settings, of_url
        for name in values if known is not None else ():
            if name not in (known or ()):
                raise invalid(f"{_shown(name)} is no field here; there are {', '.join(known or ())}")

    def text(self, name: str, default: str | None = None, *, needed: bool = False) -> str | None:
        """A string within the bound of characters."""
        value = self._one(name)
        if value is None and not needed:
            return default
        return self._text(value, name)

    def texts(self, name: str, *, needed: bool = False) -> list[str]:
        """A list of strings; a string alone is one."""
        value = self.values.get(name)
        if value is None and not needed:
            return []
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list):
            raise invalid(f"{name} has to be a list of strings")
        if len(several) > self.settings.texts:
            raise Refusal(413, "request_too_large", f"{name} has more than {self.settings.texts} texts")
        return [self._text(item, name) for item in several]

    def whole(self, name: str, default: int, *, least: int = 1, most: int) -> int:
        """A whole number within bounds."""
        value = self._one(name)
        if value is None:
            return default
        if self.of_url and isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(f"{name} has to be a whole number, not {_shown(value)}")
        if not least <= value <= most:
            raise invalid(f"{name} has to be from {least} to {most:,}, not {_shown(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float | None:
        """A finite number."""
        value = self._one(name)
        if value is None:
            return default
        if self.of_url and isinstance(value, str):
            try:
                value = float(value if "_" not in value else "")
            except ValueError:
                raise invalid(f"{name} has to be a number, not {_shown(value)}") from None
        return finite(value, name)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._one(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        if self.of_url and value in (*_TRUE, *_FALSE):
            return value in _TRUE
        raise invalid(f"{name} has to be true or false, not {_shown(value)}")

    def several(self, name: str, most: int) -> list[Any]:
        """A list of anything."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise invalid(f"{name} has to be a list")
        if len(value) > most:
            raise Refusal(413, "request_too_large", f"{name} has more than {most:,} items")
        return value

    def _one(self, name: str) -> Any:
        value = self.values.get(name)
        if self.of_url and isinstance(value, list):
            if len(value) > 1:
                raise invalid(f"{name} is given {len(value)} times")
            return value[0] if value else None
        return value

    def _text(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise invalid(f"{name} has to be a string, not {_shown(value)}")
        if len(value) > self.settings.characters:
            raise Refusal(413, "request_too_large", f"{name} is longer than {self.settings.characters:,} characters")
        return value


def finite(value: Any, name: str) -> float:
    """A number of JSON that is neither infinite nor too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(f"{name} has to be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise invalid(f"{name} has to be a finite number")
    return number


def is_data_url(value: Any) -> bool:
    """Whether a string is the data URL of an image."""
    return isinstance(value, str) and value.startswith("data:") and _DATA_URL.match(value) is not None


def picture(value: Any, settings: Settings, name: str, *, lenient: bool = False) -> ImageBytes:
    """The image file that a data URL, or base64 alone, holds; `name` is what messages call it.

    With `lenient`, one that can't be read is given all the same: work on many images skips and counts it.

    Raises:
        Refusal: It is no base64, or has too many pixels; nothing is decoded to see that.
        UnreadableImage: It is no image.
    """
    if not isinstance(value, str):
        raise invalid(f"{name} has to be a data URL (data:image/png;base64,...), not {_shown(value)}")
    if re.match(r"[a-z][a-z0-9+.-]*://", value[:20], re.IGNORECASE):
        raise invalid(f"{name} is an address; nothing is fetched from anywhere: send the image as a data URL")
    found = _DATA_URL.match(value)
    try:
        data = base64.b64decode(value[found.end() if found else 0 :], validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{name} is no data URL of an image (data:image/png;base64,...)") from None
    image = ImageBytes(data, name)
    _require_pixels(image, settings.pixels, lenient)
    return image


def _require_pixels(image: ImageBytes, most: int, lenient: bool) -> None:
    from bt_cli.preprocessing.image_file import image_size

    try:
        width, height = image_size(image)
    except UnreadableImage:
        if lenient:
            return
        raise
    if width * height > most:
        raise Refusal(413, "request_too_large", f"{image.name} has {width} x {height} pixels; {most:,} are taken")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str) if not isinstance(value, str) else ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
