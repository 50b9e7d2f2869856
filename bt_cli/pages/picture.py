"""An image file as a part of a page: small, upright, within the page itself."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bt_cli.sources.web_address import is_url

QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """`url` is a `data:` URL of a JPEG of `width` x `height` pixels."""

    url: str
    width: int
    height: int


def picture(path: str, side: int) -> Picture:
    """The image, its longer side at most `side` pixels, without the file's metadata.

    Raises:
        UnreadableImage: The file is missing or no image.
    """
    from bt_cli.preprocessing.image_file import open_image

    image = open_image(path, draft=side)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return of_jpeg(file.getvalue(), image.width, image.height)


def of_jpeg(data: bytes, width: int, height: int) -> Picture:
    """A JPEG file of `width` x `height` pixels as a part of a page."""
    return Picture("data:image/jpeg;base64," + base64.b64encode(data).decode(), width, height)


def link(path: str, page: Path | None) -> str:
    """The file as a page's link: relative to the page, so that both can move together; any name, as bytes.

    It begins with `./` or `../`, so that no name is taken for a scheme. An image on the web is linked where it is.
    """
    if is_url(path):
        return path
    folder = os.path.dirname(os.path.abspath(page)) if page is not None else os.getcwd()
    way = os.path.relpath(os.path.abspath(path), folder)
    return quote(os.fsencode(way if way.startswith("..") else os.path.join(".", way)), safe="/")
