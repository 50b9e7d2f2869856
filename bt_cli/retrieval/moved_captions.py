"""Captions that stay with their pictures when files move."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import replace

import numpy as np

from bt_cli.retrieval.index_plan import Plan
from bt_cli.store.generation import CaptionRows

LOG = logging.getLogger("bt_cli")


def follow_pictures(captions: CaptionRows, plan: Plan, kept: np.ndarray) -> CaptionRows:
    """The captions of the standing index for the next table: each names the path that has its picture now.

    A picture is known by its content. One that is at its path no longer is looked for among the files that are new or
    changed (it was moved), and where its path is gone among all others (a copy). A file whose content is found nowhere
    was edited in place, and its captions stay. What is left is told in one remark.

    Args:
        captions: Of the standing index.
        plan: Of the run.
        kept: (n,) rows of the plan that the next table has.
    """
    if plan.changes_nothing(kept):
        return captions
    place = _Places(plan, kept)
    moved = {path: place.of(path) for path in dict.fromkeys(captions.images) if path is not None}
    lost = sum(path is not None and moved[path] is None for path in captions.images)
    if lost:
        LOG.warning("captions whose picture has left the index: %d; they stay, without it", lost)
    # A path that is gone stays written down: its file may come back.
    return replace(captions, images=[None if path is None else moved[path] or path for path in captions.images])


class _Places:
    """Where pictures of the standing table are in the next one."""

    def __init__(self, plan: Plan, kept: np.ndarray) -> None:
        self.before = dict(zip(plan.standing.paths, plan.standing.content_hash.tolist(), strict=True))
        self.after: dict[str, bytes] = {}
        self.arrived: defaultdict[bytes, list[str]] = defaultdict(list)
        """Content to the paths that did not have it before."""
        self.anywhere: dict[bytes, str] = {}
        for row, digest in zip(kept.tolist(), plan.rows.content_hash[kept].tolist(), strict=True):
            path = plan.rows.paths[row]
            self.after[path] = digest
            self.anywhere.setdefault(digest, path)
            if not plan.unchanged[row]:
                self.arrived[digest].append(path)

    def of(self, path: str) -> str | None:
        """The path of the picture that was at `path`; None where it has left the index."""
        digest = self.before.get(path)
        if digest is None or self.after.get(path) == digest:
            return path
        if arrived := self.arrived.get(digest):
            return arrived.pop(0) if len(arrived) > 1 else arrived[0]  # equal pictures go to a path each
        return path if path in self.after else self.anywhere.get(digest)
