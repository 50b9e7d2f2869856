"""Captions in a folder of images: one `metadata` file for many, or beside each, and in the containers there.

`metadata.jsonl`, `metadata.csv` or `metadata.parquet`, at the top or in folders below, as the image folders of Hugging
Face's `datasets` have them: a table whose `file_name` counts from the table's own folder. Where there is none, texts
beside the images (`caption_sidecars`), and captions in tar shards, Parquet files and saved data sets
(`caption_container`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from bt_cli.captions.caption import Caption
from bt_cli.captions.caption_container import holds_captioned_images, parse_container
from bt_cli.captions.caption_formats import parse_file
from bt_cli.captions.caption_sidecars import LARGEST, OBJECT, TEXTS, WAY_OUT, Beside, sidecar_captions
from bt_cli.captions.caption_tables import Entry
from bt_cli.datasets.image_folder import find_images, path_key
from bt_cli.errors import UnreadableCaptions
from bt_cli.files.bounded_read import read_bounded
from bt_cli.files.shown_path import shown_path

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"}
"""Folders that name the split of what is in them."""
PART = re.compile(r"(\w+)-\d+-of-\d+\.\w+", re.ASCII)
"""How the hub calls a part of a split."""
SPLIT_DATA_SET = "dataset_dict.json"
"""What `datasets` writes beside the folders of a data set's splits."""


def parse_folder(folder: str) -> tuple[str, Iterator[Entry]]:
    """Which of `FOLDER_FORMATS` a folder has, and its captions as they are read, folder by folder; each image's name
    counts from the folder.

    Raises:
        UnreadableCaptions: There is neither a metadata file nor a side-car nor a container with images in it.
    """
    files = _files(folder)
    metadata = [path for path in files if os.path.basename(path) in METADATA]
    if metadata:
        return "metadata", _metadata(folder, metadata)
    containers = [path for path in files if holds_captioned_images(path)]
    beside = _beside(folder, files)
    if not (beside.files or containers):
        raise UnreadableCaptions(
            f"{shown_path(folder)}: a folder without metadata.jsonl or metadata.csv, without texts beside its images "
            "(x.txt beside x.jpg), and without tar, Parquet or Arrow files of images; name the caption file"
        )
    return "sidecars" if beside.files else "containers", _entries(folder, beside, containers)


def split_of(folder: str, path: str) -> str | None:
    """The split that a file below a folder belongs to: as data sets are saved in splits, by its name
    (`train-00000-of-00002.parquet`), or by that of a folder on the way."""
    here, name = os.path.split(path)
    if os.path.isfile(os.path.join(here, os.pardir, SPLIT_DATA_SET)):
        return os.path.basename(here)
    part = PART.fullmatch(name)
    if part and part[1] != "data":
        return part[1]
    return next((each for each in os.path.relpath(here, folder).split(os.sep) if each.lower() in SPLITS), None)


def _files(folder: str) -> list[str]:
    """The files below a folder that are not hidden, in the order of image paths."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=path_key)


def _beside(folder: str, files: list[str]) -> Beside:
    """The images in the folder itself, and what may be their captions: any text, and objects that stand beside one."""
    found = find_images([folder], known_members=lambda container: ())
    images = [os.path.relpath(file.path, folder) for file in found]
    stems = {stem for image in images for stem in (image, os.path.splitext(image)[0])}
    names = [os.path.relpath(path, folder) for path in files]
    texts = [name for name in names if name.lower().endswith(TEXTS)]
    objects = [name for name in names if name.lower().endswith(OBJECT) and os.path.splitext(name)[0] in stems]

    def read(name: str) -> bytes:
        return read_bounded(os.path.join(folder, name), UnreadableCaptions, LARGEST, WAY_OUT)

    return Beside(folder, images, [*texts, *objects], read)


def _entries(folder: str, beside: Beside, containers: list[str]) -> Iterator[Entry]:
    yield from sidecar_captions(beside)
    for path in containers:
        split = split_of(folder, path)
        for entry in parse_container(path)[1]:
            if isinstance(entry, Caption):
                image = os.path.relpath(entry.image or path, folder)
                image_id = image if entry.image_id == entry.image else entry.image_id
                yield replace(entry, image=image, image_id=image_id, split=entry.split or split)
            else:
                yield entry


def _metadata(folder: str, files: list[str]) -> Iterator[Entry]:
    for file in files:
        here = os.path.relpath(os.path.dirname(file), folder)
        split = split_of(folder, file)
        for entry in parse_file(file, None)[1]:
            if isinstance(entry, Caption):
                image = None if entry.image is None else os.path.normpath(os.path.join(here, entry.image))
                image_id = image if entry.image_id == entry.image else entry.image_id
                yield replace(entry, image=image, image_id=image_id, split=entry.split or split, file=file)
            else:
                yield entry
