"""Captions in a folder of images: one `metadata` file for many, or a text file beside each.

`metadata.jsonl`, `metadata.csv` or `metadata.parquet`, at the top or in folders below, as the image folders of Hugging
Face's `datasets` have them: a table whose `file_name` counts from the table's own folder. Where there is none,
side-cars: `x.txt` (or `x.caption`) beside `x.jpg`, as kohya's trainers, img2dataset and Tux Paint keep them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace

from bt_cli.datasets.caption import Caption
from bt_cli.datasets.caption_formats import parse_file, unsound
from bt_cli.datasets.caption_tables import Entry
from bt_cli.datasets.caption_text import decoded, lines
from bt_cli.datasets.image_folder import find_images, path_key
from bt_cli.errors import BtError, NotFound, UnreadableCaptions
from bt_cli.files.bounded_read import read_bounded
from bt_cli.files.shown_path import shown_path

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"}
"""Folders that name the split of a metadata file in them."""
SIDECARS = (".txt", ".caption")
LARGEST_SIDECAR = 1 << 20
"""Bytes of the largest text file that is read as the captions of one image."""
WAY_OUT = "a text beside an image holds its captions, one a line"

TRANSLATION = re.compile(r"[a-z]{2,3}([_-][A-Za-z]+)?(@\w+)?\.utf-?8=.*", re.IGNORECASE)
"""A line in which Tux Paint has the text of the first line in another language: `de.utf8=Ein Pferd`."""


def parse_folder(folder: str) -> tuple[str, Iterator[Entry]]:
    """Which of `FOLDER_FORMATS` a folder has, and its captions as they are read, folder by folder; each image's name
    counts from the folder.

    Raises:
        UnreadableCaptions: There is neither a metadata file nor a side-car in it.
    """
    files = _files(folder)
    metadata = [path for path in files if os.path.basename(path) in METADATA]
    if metadata:
        return "metadata", _metadata(folder, metadata)
    sidecars = [path for path in files if os.path.splitext(path)[1].lower() in SIDECARS]
    if not sidecars:
        raise UnreadableCaptions(
            f"{shown_path(folder)}: a folder without metadata.jsonl or metadata.csv, and without texts beside its "
            "images (x.txt beside x.jpg); name the caption file"
        )
    return "sidecars", _sidecars(folder, sidecars)


def _files(folder: str) -> list[str]:
    """The files below a folder that are not hidden, in the order of image paths."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=path_key)


def _metadata(folder: str, files: list[str]) -> Iterator[Entry]:
    for file in files:
        here = os.path.relpath(os.path.dirname(file), folder)
        split = next((part for part in here.split(os.sep) if part.lower() in SPLITS), None)
        for entry in parse_file(file, None)[1]:
            if isinstance(entry, Caption):
                image = None if entry.image is None else os.path.normpath(os.path.join(here, entry.image))
                image_id = image if entry.image_id == entry.image else entry.image_id
                yield replace(entry, image=image, image_id=image_id, split=entry.split or split, file=file)
            else:
                yield entry


def _sidecars(folder: str, files: list[str]) -> Iterator[Entry]:
    beside = _images_beside(folder)
    for file in files:
        name = os.path.relpath(file, folder)
        images = beside.get(os.path.splitext(name)[0], [])
        if len(images) > 1:
            shown = " and ".join(shown_path(image) for image in images)
            yield UnreadableCaptions(f"{shown_path(file)}: stands beside {shown}; rename one of them")
            continue
        if images:
            yield from _sidecar(file, images[0])
        else:
            yield UnreadableCaptions(f"{shown_path(file)}: no image of this name beside it")


def _images_beside(folder: str) -> dict[str, list[str]]:
    """An image's name from the folder, with and without its suffix, -> images, names from the folder."""
    found: dict[str, list[str]] = {}
    for file in find_images([folder]):
        name = os.path.relpath(file.path, folder)
        found.setdefault(os.path.splitext(name)[0], []).append(name)
        found.setdefault(name, []).append(name)
    return found


def _sidecar(file: str, image: str) -> Iterator[Entry]:
    try:
        content = read_bounded(file, UnreadableCaptions, LARGEST_SIDECAR, WAY_OUT)
        text, strays = decoded(content)
    except ValueError as error:
        yield UnreadableCaptions(f"{shown_path(file)}:{error.args[1]}: {error.args[0]}")
        return
    except BtError as error:  # gone since the folder was listed, a device, too large
        yield UnreadableCaptions(str(error))
        return
    whole = _downloaded_caption(file, text)
    numbered = [(1, whole)] if whole is not None else list(enumerate(lines(text), 1))
    filled = [(number, line.strip()) for number, line in numbered if line.strip() and not TRANSLATION.fullmatch(line)]
    if not filled:
        yield UnreadableCaptions(f"{shown_path(file)}: no caption")
    for number, line in filled:
        item = Caption(line, image, image, line=number, file=file)
        reason = unsound(item, strays)
        yield item if reason is None else UnreadableCaptions(f"{shown_path(file)}:{number}: {reason}")


def _downloaded_caption(file: str, text: str) -> str | None:
    """The text as one caption, with its line breaks, where img2dataset wrote it and says so in `x.json` beside it."""
    if "\n" not in text.strip():
        return None
    beside = os.path.splitext(file)[0] + ".json"
    try:
        record = json.loads(read_bounded(beside, UnreadableCaptions, LARGEST_SIDECAR, WAY_OUT))
    except (NotFound, UnreadableCaptions, ValueError, RecursionError):
        return None
    caption = record.get("caption") if isinstance(record, dict) else None
    return caption if isinstance(caption, str) and caption.strip() == text.strip() else None
