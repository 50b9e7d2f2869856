"""Paths that lead into a container: `photos/shard.tar/0001.jpg` is the member `0001.jpg` of `photos/shard.tar`."""

from __future__ import annotations

import os
import re

from bt_cli.files.plain_file import is_plain, read_head
from bt_cli.sources.tar_shard import open_shard
from bt_cli.sources.web_address import allowed_as, is_url

_WITHIN = re.compile(r"\.(?:tar|tar\.gz|tgz)/", re.IGNORECASE)


def split_path(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """(container, member) of a path into one; None for any other, such as a file in a folder that is called x.tar."""
    text = os.fspath(path)
    for match in _WITHIN.finditer(text):
        container = text[: match.end() - 1]
        if is_url(text):
            return allowed_as(text, container), text[match.end() :]
        try:
            if is_plain(os.stat(container)):
                return container, text[match.end() :]
        except OSError:
            return None
    return None


def read_member(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The bytes at a path into a container, or the first `most` of them.

    Raises:
        FileNotFoundError: The path leads into no container, or it has no such member.
        UnreadableImage: The container is damaged there.
        OSError: It can't be read.
    """
    found = split_path(path)
    if found is None:
        raise FileNotFoundError(2, "no such file", os.fspath(path))
    container, member = found
    return open_shard(container).read(member, most)


def first_bytes(path: str | os.PathLike[str], length: int) -> bytes:
    """As `read_head`, of a file or of a member; none where that can't be read."""
    head = read_head(path, length)
    if head or split_path(path) is None:
        return head
    try:
        return read_member(path, length)
    except Exception:  # whoever reads it whole will say what is wrong
        return b""
