"""Captions for an index: which of its images each one belongs to."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from bt_cli.datasets.captions import Caption
from bt_cli.datasets.image_names import ImageNames
from bt_cli.retrieval.index_plan import RootPaths
from bt_cli.shown_path import shown_path
from bt_cli.store.generation import CaptionRows

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
        here = os.path.dirname(os.path.abspath(file))
        names = ImageNames(absolute, [here, *(paths.absolute(root) for root in roots)])
        found: dict[str, str | None] = {}
        for item in items:
            if item.image is not None and item.image not in found:
                found[item.image] = names.find(item.image)
        lost = [name for name, path in found.items() if path is None]
        if lost:
            LOG.warning(
                "%s: %d of its %d images are not in the index, %s first",
                shown_path(file),
                len(lost),
                len(found),
                shown_path(lost[0]),
            )
        for item in items:
            path = found[item.image] if item.image is not None else None
            rows.texts.append(item.text)
            rows.images.append(None if path is None else absolute[path])
            rows.caption_ids.append(item.caption_id)
        rows.files.append(os.path.abspath(file))
    return rows
