"""Image files as requests carry them: data URLs."""

from __future__ import annotations

import base64
import os

from bt_cli.errors import UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.member import read_member
from bt_cli.sources.remote_image import remote_bytes
from bt_cli.sources.web_address import is_url


def data_url(path: str | os.PathLike[str]) -> str:
    """The file, member of a tar file or image on the web as a data URL; whether it is an image is the server's to say.

    Raises:
        UnreadableImage: There is no such file, or it may not be read.
    """
    if isinstance(path, str) and is_url(path):
        return as_url(remote_bytes(path))
    try:
        with open(path, "rb") as file:
            data = file.read()
    except NotADirectoryError:
        data = read_member(path)
    except OSError as error:
        reason = {2: "no such file", 13: "not permitted to read it", 21: "a folder, not an image"}
        said = reason.get(error.errno or 0, error.strerror)
        raise UnreadableImage(f"{shown_path(path)}: {said}") from None
    return as_url(data)


def as_url(data: bytes) -> str:
    """An image file's bytes as a data URL."""
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")
