"""Captions for an index: which of its images each one belongs to."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from bt_cli.datasets.captions import Caption, image_folder_of
from bt_cli.datasets.image_folder import path_key
from bt_cli.datasets.image_names import ImageNames, not_found
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.plan import Plan
from bt_cli.store.index_paths import RootPaths
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
        here = os.path.abspath(image_folder_of(file))
        names = ImageNames(absolute, [here, *(paths.absolute(root) for root in roots)])
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


def follow_images(captions: CaptionRows, plan: Plan) -> CaptionRows:
    """The captions of the current index for the next generation: each names the path that has its image now. The
    same object where nothing of that changes.

    An image is known by its content. One that is at its path no longer is looked for among the files that are new or
    changed (it was moved), and where its path is gone among all others (a copy). A file whose content is found nowhere
    was edited in place, and its captions stay. What is left is told in one remark.

    Args:
        captions: Of the current index.
        plan: Of the run.
    """
    if not len(plan.gone()):
        return captions
    place = _Places(plan)
    moved = {path: place.of(path) for path in dict.fromkeys(captions.images) if path is not None}
    lost = sum(path is not None and moved[path] is None for path in captions.images)
    if lost:
        LOG.warning("captions whose image has left the index: %d; they stay, without it", lost)
    if all(new is None or new == path for path, new in moved.items()):
        return captions
    # A path that is gone stays written down: its file may come back.
    return replace(captions, images=[None if path is None else moved[path] or path for path in captions.images])


class _Places:
    """Where images of the current index are in the next one."""

    def __init__(self, plan: Plan) -> None:
        self.stored = plan.stored
        self.gone = set(plan.gone().tolist())
        self.before = {plan.stored.path(number): number for number in self.gone}
        """Paths whose row changes or goes."""
        self.after: dict[str, bytes] = {}
        self.arrived: defaultdict[bytes, list[str]] = defaultdict(list)
        """Content to the paths that did not have it before."""
        self.copies: dict[bytes, str] | None = None
        for row in sorted(plan.kept().tolist(), key=lambda row: path_key(plan.rows.paths[row])):
            path, digest = plan.rows.paths[row], plan.rows.content_hash[row]
            self.after[path] = digest
            if not plan.same_content[row]:
                self.arrived[digest].append(path)

    def of(self, path: str) -> str | None:
        """The path of the image that was at `path`; None where it has left the index."""
        number = self.before.get(path)
        if number is None:
            return path
        digest = self.stored.column("content_hash")[number]
        if self.after.get(path) == digest:
            return path
        if arrived := self.arrived.get(digest):
            return arrived.pop(0) if len(arrived) > 1 else arrived[0]  # equal images go to a path each
        return path if path in self.after else self._copy(digest)

    def _copy(self, digest: bytes) -> str | None:
        if self.copies is None:
            self.copies = {}
            for number, content in enumerate(self.stored.column("content_hash").tolist()):
                if number not in self.gone:
                    self.copies.setdefault(content, self.stored.path(number))
        return self.copies.get(digest)
