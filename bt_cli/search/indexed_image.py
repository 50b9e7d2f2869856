"""One image of an index: found by its id or its path, described, and written out of whatever holds it."""

from __future__ import annotations

import glob
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.errors import NotFound, Unwritable
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.image_format import HEAD, image_format
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import RootPaths
from bt_cli.sources.member import split_path
from bt_cli.sources.web_address import is_url
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.index_set import IndexSet

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp"}
"""Of names that have none: a row of a Parquet file is called by its number."""
LONGEST_NAME = 200
"""Bytes of a name that is written; file systems take 255."""


@dataclass(frozen=True)
class IndexedImage:
    """What an index knows of an image.

    Attributes:
        id: As a search over the same indexes prints it.
        path: As a search prints it.
        opened: What is opened to read it: an absolute path, one into a container, or an address.
        row: What the table says of it: rows of which there is one.
        facts: How it was taken.
        captions: Its captions, in the order of the caption file.
        kept: What was carried along from its source, by the columns that the index keeps.
    """

    id: int
    path: str
    opened: str
    row: ImageRows
    facts: PhotoFacts
    captions: tuple[str, ...]
    kept: dict[str, str | None] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The `--json` object; what is not known is null."""
        inside = split_path(self.opened)
        container = None if inside is None else self.path[: -len(inside[1]) - 1]
        size, mtime, digest = int(self.row.size[0]), int(self.row.mtime[0]), self.row.content_hash[0].decode("ascii")
        known = self.facts.record()
        return {
            "id": self.id,
            "path": self.path,
            "container": container,
            "member": None if inside is None else inside[1],
            "width": int(self.row.width[0]),
            "height": int(self.row.height[0]),
            "size": size,
            "modified": _in_utc(mtime),
            "content_hash": digest or None,
            **{name: known.get(name) for name in ("taken", "camera", "latitude", "longitude")},
            "captions": list(self.captions),
            "kept": dict(self.kept),
        }


def find_image(index: IndexFolder | IndexSet, wanted: str) -> IndexedImage:
    """The image of an id (digits alone), or of a path or address as a search prints it.

    Raises:
        NotFound: The index has none; says how ids are spelt.
        BrokenIndex: Its table is damaged.
    """
    parts: Sequence[IndexFolder] = index.parts if isinstance(index, IndexSet) else [index]
    first = 0
    for part in parts:
        own = _id_in(part, wanted, first)
        if own is not None:
            return _described(part, own, first)
        first += len(part)
    held = f"the index holds {first:,} images"
    if wanted.isascii() and wanted.isdigit():
        raise NotFound(f"{shown_path(wanted)}: no such id; {held}, counted from 0 (./{wanted} is a file of that name)")
    raise NotFound(f"{shown_path(wanted)}: not in the index; give an id or a path as bt search prints it ({held})")


def write_out(image: IndexedImage, data: bytes, folder: str, taken: set[str], *, overwrite: bool = False) -> str:
    """Write the bytes of an image into a folder, which is made where it is missing, under the image's own name.

    Args:
        image: Gives the name: the last part of its path, with a suffix by its content where it has none.
        data: The bytes of its file.
        folder: Where to.
        taken: Names that this run has written: a second image of a name gets `-2` behind it. Grows.
        overwrite: Replace a file that was there before; a link or a folder is never replaced.

    Returns:
        The path of the file.

    Raises:
        Unwritable: Something of that name is there, or the folder can't be written.
    """
    name = safe_name(image.opened, data)
    stem, suffix = os.path.splitext(name)
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{suffix}"
    target = Path(folder) / name
    if os.path.islink(target):
        raise Unwritable(f"{shown_path(target)}: a link is there, and it may lead elsewhere; name another folder")
    if os.path.lexists(target) and not overwrite:
        raise Unwritable(f"{shown_path(target)}: is there already; --overwrite replaces it, or name another folder")
    write_whole(target, data)
    taken.add(name)
    return os.fspath(target)


def safe_name(path: str, data: bytes) -> str:
    """A file name for the image at a path or an address: one component, printable, no hidden one, not too long."""
    if is_url(path) and split_path(path) is None:
        path = urllib.parse.urlsplit(path).path
    name = "".join(letter if letter.isprintable() else "_" for letter in os.path.basename(path.rstrip("/")))
    name = name.replace("\\", "_").lstrip(".") or "image"
    stem, suffix = os.path.splitext(name)
    suffix = suffix or SUFFIXES.get(image_format(data[:HEAD]) or "", "")
    while len(os.fsencode(stem + suffix)) > LONGEST_NAME and stem:
        stem = stem[:-1]
    return stem + suffix if stem else f"image{suffix[:10]}"


def _id_in(folder: IndexFolder, wanted: str, first: int) -> int | None:
    if wanted.isascii() and wanted.isdigit():
        number = int(wanted[:20]) - first
        return number if 0 <= number < len(folder) else None
    stored = RootPaths(folder.home).stored(wanted)
    whole = stored if is_url(stored) else os.path.join(folder.home, stored)
    found = folder.matching(glob.escape(whole)).tolist()
    return next((number for number in found if folder.stored_path(number) == stored), None)


def _described(folder: IndexFolder, own: int, first: int) -> IndexedImage:
    captions: tuple[str, ...] = ()
    if folder.captions is not None:
        owners = folder.captions.image_ids(np.arange(len(folder.captions)))
        captions = tuple(folder.captions.texts(np.flatnonzero(owners == own)))
    (path,), (facts,) = folder.paths([own]), folder.photos.facts([own])
    opened = RootPaths(folder.home).absolute(folder.stored_path(own))
    (kept,) = folder.kept.of([own])
    return IndexedImage(first + own, path, opened, folder.photos.row(own), facts, captions, kept)


def _in_utc(nanoseconds: int) -> str | None:
    """0 is what an address without a date has."""
    if not nanoseconds:
        return None
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat().replace("+00:00", "Z")
