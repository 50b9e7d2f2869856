"""Paths that lead into a container: `photos/shard.tar/0001.jpg` is the member `0001.jpg` of `photos/shard.tar`."""

from __future__ import annotations

import os
import re

from bt_cli.files.plain_file import is_plain, read_head
from bt_cli.sources import parquet_shard, tar_shard
from bt_cli.sources.parquet_shard import ParquetShard, holds_images
from bt_cli.sources.recent import Recent
from bt_cli.sources.tar_shard import TarShard, is_shard_name
from bt_cli.sources.web_address import allowed_as, is_url

_WITHIN = re.compile(r"\.(?:tar|tar\.gz|tgz|parquet)/", re.IGNORECASE)
MOST_OPEN = 4
"""Parquet files that stay open: each has up to `parquet_shard.WINDOW` bytes at hand."""
SUFFIXES = (*tar_shard.SUFFIXES, parquet_shard.SUFFIX)
"""Of the files that may be containers."""

_parquet: Recent[tuple[str, tuple[int, int]], ParquetShard] = Recent(MOST_OPEN)


def is_container(path: str) -> bool:
    """Whether a file is taken for a container of images: a tar file by its name, a Parquet file by its columns."""
    return is_shard_name(path) or holds_images(path)


def open_container(path: str, *, asked_now: bool = False) -> TarShard | ParquetShard:
    """As `tar_shard.open_shard`, of any container."""
    if is_shard_name(path):
        return tar_shard.open_shard(path, asked_now=asked_now)
    key = os.path.abspath(path), tar_shard.shard_stamp(path)
    return _parquet.get(key, lambda: ParquetShard(path))


def split_path(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """(container, member) of a path into one; None for any other, such as a file in a folder that is called x.tar."""
    text = os.fspath(path)
    for match in _WITHIN.finditer(text):
        container = text[: match.end() - 1]
        if is_url(text) and not is_shard_name(container):
            continue  # a Parquet file elsewhere is not gone into
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
    return open_container(container).read(member, most)


def first_bytes(path: str | os.PathLike[str], length: int) -> bytes:
    """As `read_head`, of a file or of a member; none where that can't be read."""
    head = read_head(path, length)
    if head or split_path(path) is None:
        return head
    try:
        return read_member(path, length)
    except Exception:  # whoever reads it whole will say what is wrong
        return b""
