"""Image files as requests carry them: data URLs."""

from __future__ import annotations

import base64
import os

from bt_cli.errors import UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.web_address import is_url


def data_url(path: str | os.PathLike[str]) -> str:
    """The file, the member of a container or what lies at an address, as a data URL; whether it is an image is the
    server's to say.

    Raises:
        UnreadableImage: There is none, or it may not be read.
    """
    if isinstance(path, str) and is_url(path):
        from bt_cli.sources.remote_image import remote_bytes

        return as_url(remote_bytes(path))
    try:
        data = _read(path)
    except OSError as error:
        reason = {2: "no such file", 13: "not permitted to read it", 21: "a folder, not an image"}
        said = reason.get(error.errno or 0, error.strerror)
        raise UnreadableImage(f"{shown_path(path)}: {said}") from None
    return as_url(data)


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except NotADirectoryError:  # a path that leads into a container
        from bt_cli.sources.member import read_member

        return read_member(path)


def as_url(data: bytes) -> str:
    """An image file's bytes as a data URL."""
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")
