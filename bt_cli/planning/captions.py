"""Captions for an index: which of its images each one belongs to."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from bt_cli.captions.captions import Caption, hold_their_images, image_places
from bt_cli.datasets.image_names import ImageNames, not_found
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import RootPaths
from bt_cli.store.piece_writer import CaptionRows

LOG = logging.getLogger("bt_cli")


def caption_rows(
    captions: Sequence[tuple[str, Sequence[Caption]]], image_paths: list[str], paths: RootPaths, roots: list[str]
) -> CaptionRows:
    """The rows of a caption table, each with the stored path of its image.

    An image's name is looked for as it stands, below the caption file's folder and the roots, and by the longest tail
    that it shares with one image alone. Captions whose image is not found are kept: they can be found themselves.

    Args:
        captions: (caption file, its captions) for each file.
        image_paths: Stored paths of the index's images.
        paths: Between stored and absolute paths.
        roots: Of the index, as stored.
    """
    rows = CaptionRows([], [], [], [])
    absolute = {paths.absolute(path): path for path in image_paths}
    for file, items in captions:
        # A container's captions have their images' paths as they stand; others count from beside the file.
        here = [os.curdir] if hold_their_images(file) else image_places(file)
        folders = [os.path.abspath(folder) for folder in here]
        names = ImageNames(absolute, [*folders, *(paths.absolute(root) for root in roots)])
        fitting: dict[str, list[str]] = {}
        for item in items:
            if item.image is not None and item.image not in fitting:
                fitting[item.image] = names.fitting(item.image)
        found = {name: paths[0] if len(paths) == 1 else None for name, paths in fitting.items()}
        _tell_of_lost(file, fitting)
        for item in items:
            path = found[item.image] if item.image is not None else None
            rows.texts.append(item.text)
            rows.images.append(None if path is None else absolute[path])
            rows.caption_ids.append(item.caption_id)
        rows.files.append(os.path.abspath(file))
    return rows


def _tell_of_lost(file: str, fitting: dict[str, list[str]]) -> None:
    """Say which images of a caption file are not in the index, and which may be any of several."""
    lost = [name for name, paths in fitting.items() if not paths]
    unclear = [name for name, paths in fitting.items() if len(paths) > 1]
    where, images = shown_path(file), len(fitting)
    if lost:
        LOG.warning(
            "%s: %d of its %d images are not in the index, %s first", where, len(lost), images, shown_path(lost[0])
        )
    if unclear:
        first = not_found(unclear[0], fitting[unclear[0]], "")
        LOG.warning("%s: %d of its %d images may be any of several: %s", where, len(unclear), images, first)
