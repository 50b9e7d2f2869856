"""Captions as people keep them: one reader for every format, told apart by what a file holds and not by its name.

| format | holds |
|---|---|
| `plain` | one caption a line |
| `csv`, `tsv` | a header and rows (comma, semicolon or bar; tab); or an image's name and a caption in each row |
| `token` | Flickr8k and 30k: `name.jpg#0`, a tab, the caption |
| `coco` | COCO's captions JSON: `images` and `annotations` |
| `karpathy` | Karpathy's JSON: `images` with `sentences` and a `split` |
| `json` | a JSON list of objects like the lines of `jsonl`, or of texts |
| `jsonl` | one JSON object a line |
| `parquet` | a table with columns like a CSV's |

Columns and keys go by their usual names (`COLUMN_NAMES`), upper or lower case. Text is UTF-8, or UTF-16 with a byte
order mark. Blank lines are passed over; equal lines are so many captions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from bt_cli.datasets.caption import FORMATS, Caption, CaptionSet
from bt_cli.datasets.caption_formats import parse
from bt_cli.datasets.image_names import ImageNames, none_below
from bt_cli.errors import Misuse, NotFound, UnreadableCaptions
from bt_cli.files.shown_path import shown_path

__all__ = ["FORMATS", "Caption", "CaptionSet", "read_captions"]

OnMissing = Callable[[NotFound], None]


def read_captions(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    on_missing: OnMissing | None = None,
) -> CaptionSet:
    """Read a caption file.

    Args:
        path: The file.
        format: One of `FORMATS`; told by the content if not given.
        split: Only the captions of this split, or of several joined by `+` (`train+restval`).
        images: The folder of the images that are meant: each caption's `image` becomes the path of its file there.
        on_missing: Hears of each image that is not there; its captions are left out. Without it that is an error.

    Raises:
        NotFound: There is no such file, or no such image below `images`; names the line. Also when none is there.
        UnreadableCaptions: It holds no caption, or one that can't be read; names the line. Also when `split` is not
            in it.
        Misuse: `format` is none of `FORMATS`, or `images` is a file.
    """
    path = os.fspath(path)
    if format is not None and format not in FORMATS:
        raise Misuse(f"{format!r} is no caption format: {', '.join(FORMATS)}")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise NotFound(f"{shown_path(path)}: no such file") from None
    except OSError as error:
        raise UnreadableCaptions(f"{shown_path(path)}: can't be read: {error.strerror}") from error
    found, items = parse(content, path, format)
    if not items:
        raise UnreadableCaptions(f"{shown_path(path)}: holds no caption")
    if split is not None:
        items = _of_split(items, split, path)
    captions = CaptionSet(path, found, items)
    return captions if images is None else _with_paths(captions, os.fspath(images), on_missing)


def _of_split(items: Iterable[Caption], split: str, path: str) -> list[Caption]:
    wanted = set(split.split("+"))
    items = list(items)
    present = {item.split for item in items if item.split is not None}
    missing = wanted - present
    if missing:
        has = f"it has {', '.join(sorted(present))}" if present else "it has no splits"
        raise UnreadableCaptions(f"{shown_path(path)}: no split {min(missing)!r}; {has}")
    return [item for item in items if item.split in wanted]


def _with_paths(captions: CaptionSet, folder: str, on_missing: OnMissing | None) -> CaptionSet:
    names = ImageNames.below(folder)
    found: dict[str, str | None] = {}
    for item in captions.items:
        if item.image is not None and item.image not in found:
            found[item.image] = names.find(item.image)
            if found[item.image] is None:
                place = captions.place(item)
                error = NotFound(f"{place}: its image {shown_path(item.image)} is not below {shown_path(folder)}")
                if on_missing is None:
                    raise error
                on_missing(error)
    if found and not any(found.values()):
        raise none_below(captions.path, len(found), folder)
    items = [
        item if item.image is None else replace(item, image=found[item.image])
        for item in captions.items
        if item.image is None or found[item.image] is not None
    ]
    return replace(captions, items=items)
