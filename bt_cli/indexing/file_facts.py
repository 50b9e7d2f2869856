"""What an index's table says of an image file beside its embedding, found out from the file itself."""

from __future__ import annotations

import os

from bt_cli.datasets.image_folder import content_hash
from bt_cli.errors import BtError
from bt_cli.preprocessing.image_file import decode_image
from bt_cli.sources.member import read_member, split_path
from bt_cli.sources.web_address import is_url

Facts = tuple[int, int, str, int, int]
"""Size in bytes, time of change in nanoseconds, SHA-256 as hex digits, width and height as the image is shown."""


def file_facts(path: str) -> Facts | None:
    """Of the image at an absolute path, a member of a tar file too; None for an address and what can't be read now."""
    if is_url(path):
        return None
    try:
        container = split_path(path)
        status = os.stat(path if container is None else container[0])
        size = status.st_size if container is None else len(read_member(path))
        image = decode_image(path, draft=1)
        return size, status.st_mtime_ns, content_hash(path), image.width, image.height
    except (OSError, BtError):
        return None
