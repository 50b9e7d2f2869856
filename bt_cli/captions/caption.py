"""A caption, and the captions of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bt_cli.files.shown_path import shown_path

FORMATS = ("plain", "csv", "tsv", "token", "coco", "karpathy", "json", "map", "jsonl", "parquet")
"""Every format of a caption file; `captions` says what each one is."""
FOLDER_FORMATS = ("metadata", "sidecars", "containers")
"""What a folder of captions can be."""
CONTAINER_FORMATS = ("shard", "parquet", "arrow")
"""What a container with images and captions can be."""

LONGEST_CAPTION = 1 << 16
"""Characters of the longest text that is taken for a caption. The network reads some fifty tokens; what is a thousand
times that is a file that went wrong."""

ENTRIES = {"coco": "annotation", "karpathy": "image", "json": "entry", "map": "entry", "parquet": "row", "arrow": "row"}
"""What the captions of a format that has no lines are counted by."""


def shown_place(path: str, number: int | None, format: str) -> str:
    """Where a caption stands, for a message: `captions.csv:2`, or `captions.json: annotation 2`."""
    if format in ENTRIES:
        return f"{shown_path(path)}: {ENTRIES[format]} {number}"
    return f"{shown_path(path)}:{number}"


@dataclass(frozen=True)
class Caption:
    """One caption of a file."""

    text: str
    """White space around it taken off; never empty."""
    image: str | None = None
    """The image's name or path, as the file has it; where a folder of images was given, a path that can be opened."""
    image_id: str | None = None
    """As the file has it, else the image's name: equal for all captions of an image."""
    caption_id: str | None = None
    negatives: tuple[str, ...] = ()
    """Captions that are wrong for this image on purpose."""
    split: str | None = None
    line: int | None = None
    """Where it stands in the file, counting from 1: the line, or the entry in a JSON document or Parquet table."""
    file: str | None = None
    """The file that it stands in, where that is one of several."""
    file_format: str | None = None
    """The format of that file, where it is another one than that of the whole."""


@dataclass(frozen=True)
class CaptionSet:
    """The captions of a file or folder, in its order."""

    path: str
    format: str
    """One of `FORMATS`, or for a folder of `FOLDER_FORMATS`, for a container of `CONTAINER_FORMATS`."""
    items: list[Caption]
    skipped: int = 0
    """Captions that could not be read, or whose image is not there, and were told to `on_skip` or `on_missing`."""
    places: tuple[str, ...] = (os.curdir,)
    """Where its images are if nothing else is said: beside the file, or in the folder or the containers."""

    def __len__(self) -> int:
        return len(self.items)

    def place(self, item: Caption) -> str:
        """Where one of the captions stands, for a message."""
        return shown_place(item.file or self.path, item.line, item.file_format or self.format)

    @property
    def images(self) -> list[str]:
        """The names of the images, each once, in the order of their first captions."""
        return list(dict.fromkeys(item.image for item in self.items if item.image is not None))

    def by_image(self) -> dict[str, list[int]]:
        """Image name -> positions of its captions in `items`."""
        positions: dict[str, list[int]] = {}
        for position, item in enumerate(self.items):
            if item.image is not None:
                positions.setdefault(item.image, []).append(position)
        return positions
