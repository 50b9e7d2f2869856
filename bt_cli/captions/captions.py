"""Captions as people keep them: one reader for every format, told apart by what a file holds and not by its name.

| format | holds |
|---|---|
| `plain` | one caption a line |
| `csv`, `tsv` | a header and rows (comma, semicolon or bar; tab); or an image's name and a caption in each row |
| `token` | Flickr8k and 30k: `name.jpg#0`, a tab, the caption |
| `coco` | COCO's captions JSON: `images` and `annotations` |
| `karpathy` | Karpathy's JSON: `images` with `sentences` and a `split` |
| `json` | a JSON list of objects like the lines of `jsonl`, or of texts |
| `map` | a JSON object of images, each with its caption or a list of them |
| `jsonl` | one JSON object a line |
| `parquet` | a table with columns like a CSV's |

Columns and keys go by their usual names (`COLUMN_NAMES`), upper or lower case; a list in a cell is several captions.
Text is UTF-8, or UTF-16 with a byte order mark. Blank lines are passed over; equal lines are so many captions.

A folder of images holds captions, too: in `metadata.jsonl` or its like, or in a text file beside each image
(`caption_folder`). So do tar shards, Parquet and Arrow files with images in them (`caption_container`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from bt_cli.captions.caption import FORMATS, Caption, CaptionSet
from bt_cli.captions.caption_container import holds_captioned_images, parse_container
from bt_cli.captions.caption_folder import parse_folder
from bt_cli.captions.caption_formats import parse_file
from bt_cli.captions.caption_tables import Entry
from bt_cli.datasets.image_names import ImageNames, none_below, not_found, shown_places
from bt_cli.errors import Misuse, NotFound, UnreadableCaptions
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.shard_list import shard_list
from bt_cli.sources.web_address import allowed

__all__ = [
    "FORMATS",
    "Caption",
    "CaptionSet",
    "PathLike",
    "PathLikes",
    "caption_files",
    "hold_their_images",
    "image_places",
    "list_of",
    "read_captions",
]

PathLike = str | os.PathLike[str]
PathLikes = PathLike | Sequence[PathLike]
OnMissing = Callable[[NotFound], None]
OnSkip = Callable[[UnreadableCaptions], None]


def read_captions(
    path: PathLikes,
    *,
    format: str | None = None,
    split: str | None = None,
    images: PathLikes | None = None,
    elsewhere: bool = False,
    allow_private: bool = False,
    on_missing: OnMissing | None = None,
    on_skip: OnSkip | None = None,
) -> CaptionSet:
    """Read a caption file, the captions in a folder of images, or those in shards and Parquet files of images.

    Args:
        path: The file or folder; or tar shards and Parquet files with images in them, several of them also as one word
            (`shards/{000..019}.tar`). A caption file has at most 1 GiB, if it is no Parquet, and a caption 65,536
            characters.
        format: One of `FORMATS`; told by the content if not given. A folder's is always told by what is in it.
        split: Only the captions of this split, or of several joined by `+` (`train+restval`).
        images: The folder of the images that are meant, or shards and Parquet files of them: each caption's `image`
            becomes the path of its file there.
        elsewhere: An image that is named by an address, and is not there, is the one at that address.
        allow_private: Addresses may be those of this machine and its networks (see `WebImage`).
        on_missing: Hears of each image that is not there, or may be any of several files; its captions are left out.
            Without it that is an error.
        on_skip: Hears of each caption that can't be read, with its line; it is left out. Without it, and where none
            can be read, that is an error.

    Raises:
        NotFound: There is no such file, or no such image below `images`; names the line. Also when none is there.
        UnreadableCaptions: It holds no caption, or one that can't be read; names the line. Also when `split` is not
            in it, and for a device or a file beyond any measure.
        Misuse: `format` is none of `FORMATS`, or given for a folder; `images` is a file without images in it; or
            several are named that are not all containers of images.
    """
    if format is not None and format not in FORMATS:
        raise Misuse(f"{format!r} is no caption format: {', '.join(FORMATS)}")
    files = caption_files(path)
    name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1:,} more"
    found, entries = _parsed(files[0], format) if len(files) == 1 else _parsed_containers(files, format)
    items, skipped = _sorted_out(entries, on_skip)
    if not items:
        raise UnreadableCaptions(f"{shown_path(name)}: holds no caption")
    if split is not None:
        items = _of_split(items, split, name)
    if allow_private:
        items = [item if item.image is None else replace(item, image=allowed(item.image)) for item in items]
    captions = CaptionSet(name, found, items, skipped, tuple(image_places(files)))
    return captions if images is None else _with_paths(captions, list_of(images), elsewhere, on_missing)


def caption_files(path: PathLikes) -> list[str]:
    """The files and folders that are meant, each once: as it stands, or what its braces and wildcards stand for. Raises
    as `shard_list`."""
    named = [file for each in list_of(path) for file in shard_list(each)]
    return list({os.path.realpath(file): file for file in reversed(named)}.values())[::-1]


def image_places(path: PathLikes) -> list[str]:
    """Where the images of captions are if nothing else is said: beside the file, in the folder or the container."""
    return list(dict.fromkeys(_image_place(file) for file in caption_files(path)))


def hold_their_images(path: PathLikes) -> bool:
    """Whether captions are in containers, each beside its image."""
    return all(not os.path.isdir(file) and holds_captioned_images(file) for file in caption_files(path))


def list_of(path: PathLikes) -> list[str]:
    """One path, or several, as texts."""
    return [os.fspath(each) for each in ([path] if isinstance(path, (str, os.PathLike)) else path)]


def _image_place(path: str) -> str:
    return path if os.path.isdir(path) or holds_captioned_images(path) else os.path.dirname(path) or os.curdir


def _parsed(path: str, format: str | None) -> tuple[str, Iterator[Entry]]:
    if os.path.isdir(path):
        if format is not None:
            raise Misuse(f"{shown_path(path)}: a folder; --format says what a caption file holds")
        return parse_folder(path)
    return parse_container(path, format) if holds_captioned_images(path) else parse_file(path, format)


def _parsed_containers(paths: list[str], format: str | None) -> tuple[str, Iterator[Entry]]:
    """The captions of several containers, whose images have the paths of their own in them."""
    for path in paths:
        if not hold_their_images(path):
            raise Misuse(
                f"{shown_path(path)}: several are read together where each is a tar, Parquet or Arrow file of images"
            )
    parsed = [parse_container(path, format) for path in paths]
    return parsed[0][0], chain.from_iterable(entries for _, entries in parsed)


def _sorted_out(entries: Iterator[Entry], on_skip: OnSkip | None) -> tuple[list[Caption], int]:
    """The captions, and how many could not be read; those are told once it is sure that not all are so."""
    items: list[Caption] = []
    waiting: list[UnreadableCaptions] = []
    skipped = 0
    for entry in entries:
        if isinstance(entry, Caption):
            items.append(entry)
            if on_skip is not None:
                for error in waiting:
                    on_skip(error)
            waiting = []
        elif on_skip is None:
            raise entry
        else:
            skipped += 1
            if items:
                on_skip(entry)
            else:
                waiting.append(entry)
    if waiting:
        more = f" (and {len(waiting) - 1:,} more that can't be read; no caption can)" if len(waiting) > 1 else ""
        raise UnreadableCaptions(f"{waiting[0]}{more}")
    return items, skipped


def _of_split(items: Iterable[Caption], split: str, path: str) -> list[Caption]:
    wanted = set(split.split("+"))
    items = list(items)
    present = {item.split for item in items if item.split is not None}
    missing = wanted - present
    if missing:
        has = f"it has {', '.join(sorted(present))}" if present else "it has no splits"
        raise UnreadableCaptions(f"{shown_path(path)}: no split {min(missing)!r}; {has}")
    return [item for item in items if item.split in wanted]


def _with_paths(captions: CaptionSet, places: list[str], elsewhere: bool, on_missing: OnMissing | None) -> CaptionSet:
    names = ImageNames.below(*places, elsewhere=elsewhere)
    where = shown_places(places)
    found: dict[str, str | None] = {}
    missing: list[NotFound] = []
    unclear: NotFound | None = None
    for item in captions.items:
        if item.image is not None and item.image not in found:
            fitting = names.fitting(item.image)
            found[item.image] = fitting[0] if len(fitting) == 1 else None
            if len(fitting) != 1:
                reason = not_found(item.image, fitting, f"below {where}")
                error = NotFound(f"{captions.place(item)}: {reason}")
                unclear = unclear or (error if fitting else None)
                if on_missing is None:
                    raise error
                missing.append(error)
    if found and not any(found.values()):
        raise unclear or none_below(captions.path, len(found), where)
    if on_missing is not None:
        for error in missing:
            on_missing(error)
    items = [
        item if item.image is None else replace(item, image=found[item.image])
        for item in captions.items
        if item.image is None or found[item.image] is not None
    ]
    return replace(captions, items=items, skipped=captions.skipped + len(captions.items) - len(items))
