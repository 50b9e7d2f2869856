"""Paths that lead into a container: `photos/shard.tar/0001.jpg` is the member `0001.jpg` of `photos/shard.tar`."""

from __future__ import annotations

import os
import re

from bt_cli.files.plain_file import is_plain, read_head
from bt_cli.sources import arrow_shard, parquet_shard, tar_shard
from bt_cli.sources.arrow_shard import ArrowShard
from bt_cli.sources.image_column import row_of
from bt_cli.sources.parquet_shard import ParquetShard
from bt_cli.sources.recent import Recent
from bt_cli.sources.tar_shard import TarShard, is_shard_name
from bt_cli.sources.web_address import allowed_as, is_url

_WITHIN = re.compile(r"\.(?:tar|tar\.gz|tgz|parquet|arrow)/", re.IGNORECASE)
MOST_OPEN = 4
"""Parquet files that stay open: each has up to `parquet_shard.WINDOW` bytes at hand."""
SUFFIXES = (*tar_shard.SUFFIXES, parquet_shard.SUFFIX, arrow_shard.SUFFIX)
"""Of the files that may be containers."""

_parquet: Recent[tuple[str, tuple[int, int]], ParquetShard] = Recent(MOST_OPEN)
_arrow: Recent[tuple[str, tuple[int, int]], ArrowShard] = Recent(tar_shard.MOST_OPEN)

Container = TarShard | ParquetShard | ArrowShard


def is_container(path: str) -> bool:
    """Whether a file is taken for a container of images: a tar file by its name, a Parquet or Arrow file by its
    columns."""
    return is_shard_name(path) or parquet_shard.holds_images(path) or arrow_shard.holds_images(path)


def is_of_rows(path: str) -> bool:
    """Whether a container is one of rows, of which each has an image or none, and not of files."""
    return not is_shard_name(path)


def has_images(path: str) -> bool:
    """Whether a container of rows has the bytes of any image; its rows may name files instead."""
    inside = arrow_shard.has_images if path.lower().endswith(arrow_shard.SUFFIX) else parquet_shard.has_images
    return inside(path)


def open_container(path: str, *, asked_now: bool = False) -> Container:
    """As `tar_shard.open_shard`, of any container."""
    if is_shard_name(path):
        return tar_shard.open_shard(path, asked_now=asked_now)
    key = tar_shard.shard_key(path, asked_now=asked_now)
    if path.lower().endswith(arrow_shard.SUFFIX):
        return _arrow.get(key, lambda: ArrowShard(path))
    return _parquet.get(key, lambda: ParquetShard(path))


def at_hand(url: str) -> tuple[Container, str] | None:
    """(container, member) of an address that leads into a shard which is open, and of which the member's bytes are here
    already; None for any other. Nobody is asked."""
    found = split_path(url)
    key = None if found is None else tar_shard.asked_key(found[0])
    if found is None or key is None:
        return None
    path, member = found
    container: Container | None
    if is_shard_name(path):
        container = tar_shard.opened_shard(key)
    else:
        container = (_arrow if path.lower().endswith(arrow_shard.SUFFIX) else _parquet).peek(key)
    return (container, member) if container is not None and container.is_at_hand(member) else None


def split_path(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """(container, member) of a path into one; None for any other, such as a file in a folder that is called x.tar."""
    text = os.fspath(path)
    for match in _WITHIN.finditer(text):
        container = text[: match.end() - 1]
        if is_url(text) and not (is_shard_name(container) or _leads_to_row(container, text[match.end() :])):
            continue
        if is_url(text):
            return allowed_as(text, container), text[match.end() :]
        try:
            if is_plain(os.stat(container)):
                return container, text[match.end() :]
        except OSError:
            return None
    return None


def _leads_to_row(container: str, member: str) -> bool:
    return container.lower().endswith((parquet_shard.SUFFIX, arrow_shard.SUFFIX)) and row_of(member) >= 0


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
