"""What an index's table says of an image file beside its embedding, found out from the file itself."""

from __future__ import annotations

import os

import numpy as np

from bt_cli.datasets.image_folder import content_hash
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.errors import BtError
from bt_cli.preprocessing.image_file import decode_image
from bt_cli.sources.member import read_member, split_path
from bt_cli.sources.web_address import is_url


def file_facts(path: str) -> ImageRows | None:
    """The one row of the image at an absolute path, a member of a tar file too; None for an address and what can't be
    read now. Width and height are as the image is shown."""
    if is_url(path):
        return None
    try:
        container = split_path(path)
        status = os.stat(path if container is None else container[0])
        image = decode_image(path, draft=1)
        row = ImageRows.blank([path])
        row.size[0] = status.st_size if container is None else len(read_member(path))
        row.mtime[0] = status.st_mtime_ns
        row.content_hash[0] = content_hash(path)
        row.width[0], row.height[0] = image.width, image.height
    except (OSError, BtError):
        return None
    row.set_facts(np.array([0]), [image.facts])
    return row
