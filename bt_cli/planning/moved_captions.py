"""Captions of an index whose images were moved, changed or taken away: they follow the images."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import replace

from bt_cli.datasets.image_folder import path_key
from bt_cli.planning.plan import Plan
from bt_cli.store.piece_writer import CaptionRows

LOG = logging.getLogger("bt_cli")


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
