"""Captions in texts beside images, in a folder or in a tar shard: `x.txt` beside `x.jpg`, or `x.json` with a caption.

kohya's trainers, img2dataset, webdataset and Tux Paint keep captions so. A text is `x.txt` or `x.caption`, one caption
a line; where an image has none, an object in `x.json` is read for its key `caption`, `captions`, `text`, `sentence` or
`sentences`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bt_cli.captions.caption import Caption
from bt_cli.captions.caption_columns import SURE, Columns, captions_of_fields
from bt_cli.captions.caption_formats import unsound
from bt_cli.captions.caption_tables import Entry
from bt_cli.captions.caption_text import decoded, lines
from bt_cli.datasets.image_folder import NUMBERED, path_key
from bt_cli.errors import BtError, UnreadableCaptions
from bt_cli.files.shown_path import shown_path

TEXTS = (".txt", ".caption")
OBJECT = ".json"
SUFFIXES = (*TEXTS, OBJECT)
"""Of files (lower case) that may hold captions of the image beside them."""
LARGEST = 1 << 20
"""Bytes of the largest text file that is read as the captions of one image."""
WAY_OUT = "a text beside an image holds its captions, one a line"

TRANSLATION = re.compile(r"[a-z]{2,3}([_-][A-Za-z]+)?(@\w+)?\.utf-?8=.*", re.IGNORECASE)
"""A line in which Tux Paint has the text of the first line in another language: `de.utf8=Ein Pferd`."""


@dataclass(frozen=True)
class Beside:
    """Images, and the files beside them that may hold their captions."""

    place: str
    """The folder or container that they are in."""
    images: list[str]
    """Names of the images, counted from the place."""
    files: list[str]
    """Names of files with one of `SUFFIXES`, counted from the place."""
    read: Callable[[str], bytes]
    """The content of a file. Raises UnreadableCaptions, NotFound."""
    called: Callable[[str], str] = str
    """What a caption calls an image of this name."""


def may_be_sidecar(name: str) -> bool:
    """Whether a file is called as those beside images are that hold their captions."""
    return _stem_and_suffix(name)[1] in SUFFIXES


def sidecar_captions(beside: Beside) -> Iterator[Entry]:
    """The captions, in the order of the files' names."""
    images = _by_stem(beside.images)
    stems = {name: _stem_and_suffix(name) for name in beside.files}
    with_text = {image for stem, suffix in stems.values() if suffix in TEXTS for image in images.get(stem, [])}
    for name in sorted(beside.files, key=path_key):
        stem, suffix = stems[name]
        fitting = images.get(stem, [])
        if suffix in TEXTS:
            yield from _one_image(beside, name, fitting) or _text(beside, name, fitting[0])
        elif fitting and not with_text.intersection(fitting) and (record := _record(beside, name)) is not None:
            yield from _one_image(beside, name, fitting) or _object(beside, name, fitting[0], record)


def _stem_and_suffix(name: str) -> tuple[str, str]:
    """(name without its suffix, suffix in small letters); `x.txt#2` in a shard stands beside `x.jpg#2`."""
    number = NUMBERED.search(name)
    stem, suffix = os.path.splitext(NUMBERED.sub("", name))
    return stem + (number[0] if number else ""), suffix.lower()


def _by_stem(images: Iterable[str]) -> dict[str, list[str]]:
    """An image's name, with and without its suffix, -> images."""
    found: dict[str, list[str]] = {}
    for name in images:
        found.setdefault(_stem_and_suffix(name)[0], []).append(name)
        found.setdefault(name, []).append(name)
    return found


def _one_image(beside: Beside, name: str, fitting: list[str]) -> list[Entry]:
    """What is wrong where a file does not stand beside one image."""
    if len(fitting) == 1:
        return []
    file = shown_path(os.path.join(beside.place, name))
    shown = " and ".join(shown_path(image) for image in fitting)
    reason = f"stands beside {shown}; rename one of them" if fitting else "no image of this name beside it"
    return [UnreadableCaptions(f"{file}: {reason}")]


def _text(beside: Beside, name: str, image: str) -> Iterator[Entry]:
    file = os.path.join(beside.place, name)
    try:
        text, strays = decoded(beside.read(name))
    except ValueError as error:
        yield UnreadableCaptions(f"{shown_path(file)}:{error.args[1]}: {error.args[0]}")
        return
    except BtError as error:  # gone since the folder was listed, a device, too large
        yield UnreadableCaptions(str(error))
        return
    whole = _downloaded_caption(beside, name, text)
    numbered = [(1, whole)] if whole is not None else list(enumerate(lines(text), 1))
    filled = [(number, line.strip()) for number, line in numbered if line.strip() and not TRANSLATION.fullmatch(line)]
    if not filled:
        yield UnreadableCaptions(f"{shown_path(file)}: no caption")
    for number, line in filled:
        item = Caption(line, beside.called(image), image, line=number, file=file)
        reason = unsound(item, strays)
        yield item if reason is None else UnreadableCaptions(f"{shown_path(file)}:{number}: {reason}")


def _downloaded_caption(beside: Beside, name: str, text: str) -> str | None:
    """The text as one caption, with its line breaks, where img2dataset wrote it and says so in `x.json` beside it."""
    if "\n" not in text.strip():
        return None
    number = NUMBERED.search(name)
    record = _record(beside, os.path.splitext(NUMBERED.sub("", name))[0] + OBJECT + (number[0] if number else ""))
    caption = record.get("caption") if record is not None else None
    return caption if isinstance(caption, str) and caption.strip() == text.strip() else None


def _record(beside: Beside, name: str) -> dict[str, Any] | None:
    """The object in a file, if it has a caption; None for any other, as programs keep many things in such files."""
    try:
        record = json.loads(beside.read(name))
    except (BtError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and SURE.intersection(map(str.lower, record)) else None


def _object(beside: Beside, name: str, image: str, record: dict[str, Any]) -> Iterator[Entry]:
    file = os.path.join(beside.place, name)
    fields = {key: value for key, value in record.items() if key.lower() in SURE}
    try:
        captions = captions_of_fields(Columns.of(fields), fields, 1)
    except ValueError as error:
        yield UnreadableCaptions(f"{shown_path(file)}: {error}")
        return
    except RecursionError:
        yield UnreadableCaptions(f"{shown_path(file)}: lists in lists, nested too deep")
        return
    for caption in captions:
        item = Caption(caption.text, beside.called(image), image, line=1, file=file)
        reason = unsound(item, False)
        yield item if reason is None else UnreadableCaptions(f"{shown_path(file)}: {reason}")
