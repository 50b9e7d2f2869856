"""Captions in a container, each of the image there: texts beside the members of a tar shard, columns beside the images
of a Parquet or Arrow file.

An image is called by its path into the container, `shards/000.tar/000000012.jpg` or `part.parquet/000000123`, which can
be opened as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bt_cli.captions import caption_tables
from bt_cli.captions.caption import Caption
from bt_cli.captions.caption_formats import sound
from bt_cli.captions.caption_sidecars import LARGEST, WAY_OUT, Beside, may_be_sidecar, sidecar_captions
from bt_cli.captions.caption_tables import Entry
from bt_cli.datasets.image_folder import find_images
from bt_cli.errors import Misuse, NotFound, UnreadableCaptions, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.image_column import row_name
from bt_cli.sources.member import has_images, is_container, is_of_rows
from bt_cli.sources.tar_shard import TarShard, open_shard

SHARD = "shard"
"""The format of captions in a tar shard."""


def holds_captioned_images(path: str) -> bool:
    """Whether a file is a container whose captions are of the images in it. A table with a column for images, of
    which none is in there, is one that names files."""
    return is_container(path) and (not is_of_rows(path) or has_images(path))


def parse_container(path: str, format: str | None = None) -> tuple[str, Iterator[Entry]]:
    """The format of a container, and its captions as they are read; each with its image's path and the container as its
    file.

    Raises:
        NotFound: It is not there.
        UnreadableCaptions: It can't be opened.
        Misuse: `format` says something else of it.
    """
    found = path.rpartition(".")[2].lower() if is_of_rows(path) else SHARD
    if format not in (None, found):
        raise Misuse(f"{shown_path(path)}: holds images; --format says what a caption file holds")
    return found, _in_shard(path) if found == SHARD else _in_rows(path, found)


def _in_shard(path: str) -> Iterator[Entry]:
    errors: list[OSError] = []
    images = [image.path for image in find_images([path], on_error=lambda _, error: errors.append(error))]
    for error in errors:
        yield UnreadableCaptions(f"{shown_path(path)}: {error.strerror or error}")
    if not images:
        return
    shard = open_shard(path)
    contents = _texts(shard)

    def read(name: str) -> bytes:
        content = contents.get(name, NotFound(f"{shown_path(f'{path}/{name}')}: no such member"))
        if isinstance(content, bytes):
            return content
        raise content

    names = [image[len(path) + 1 :] for image in images]
    beside = Beside(path, names, list(contents), read, called=lambda name: f"{path}/{name}")
    for entry in sidecar_captions(beside):
        yield replace(entry, image_id=entry.image, file_format=SHARD) if isinstance(entry, Caption) else entry


def _texts(shard: TarShard) -> dict[str, bytes | UnreadableCaptions]:
    """What the files beside images hold, read in the order in which they lie: a compressed shard is read but once."""
    found: dict[str, bytes | UnreadableCaptions] = {}
    for member in shard.members:
        if not may_be_sidecar(member.name):
            continue
        shown = shown_path(f"{shard.path}/{member.name}")
        if member.size > LARGEST:
            found[member.name] = UnreadableCaptions(f"{shown}: larger than {LARGEST >> 20} MiB; {WAY_OUT}")
            continue
        try:
            found[member.name] = shard.read(member.name)
        except (UnreadableImage, OSError) as error:
            found[member.name] = UnreadableCaptions(f"{shown}: {getattr(error, 'strerror', None) or error}")
    return found


def _in_rows(path: str, format: str) -> Iterator[Entry]:
    read = caption_tables.arrow_of_images if format == "arrow" else caption_tables.parquet_of_images
    begun = False
    try:
        for entry in sound(read(path), path, format, False):
            begun = True
            if isinstance(entry, Caption):
                assert entry.line is not None
                image = f"{path}/{row_name(entry.line - 1)}"
                yield replace(entry, image=image, image_id=entry.image_id or image, file=path, file_format=format)
            else:
                yield entry
    except UnreadableCaptions as error:  # damage within it leaves what was read
        if not begun:
            raise
        yield error
