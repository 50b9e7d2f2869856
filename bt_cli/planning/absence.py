"""Absence is no deletion: which rows stay although their files are not there now.

A file that is gone from a folder which still has images was deleted, and its row goes. A folder without a single image
where the index has some may as well be a disk that is not mounted, a share that is offline or a folder renamed this
instant: its rows stay, and it is named, until somebody says `--forget`. Files of such a folder that are found
elsewhere by their content have moved, and their old rows go.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from bt_cli.datasets.image_folder import find_images
from bt_cli.errors import Misuse, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import RootPaths, is_below


def absent_folder(path: str, roots: Sequence[str], has_images: Callable[[str], bool]) -> str | None:
    """The highest folder above a missing file that has no image now, at or below one of the roots; None where the
    file's own folder has some.

    Args:
        path: Of the missing file, as stored.
        roots: What was looked through, as stored.
        has_images: Whether an image was found below a folder, as stored.
    """
    highest = None
    folder = os.path.dirname(path) or os.curdir
    while any(is_below(folder, root) for root in roots) and not has_images(folder):
        highest = folder
        above = os.path.dirname(folder) or os.curdir
        if above == folder:
            break
        folder = above
    return highest


def unmoved(missing: Sequence[int], digest: Callable[[int], bytes], arrived: Iterable[bytes]) -> list[int]:
    """Those of the `missing` rows that did not move: each file that arrived accounts for one row of its content."""
    left = Counter(arrived)
    rows = []
    for row in missing:
        content = digest(row)
        if left[content] > 0:
            left[content] -= 1
        else:
            rows.append(row)
    return rows


class Forgotten:
    """The folders of `--forget`.

    Attributes:
        folders: As stored.
        remaining: The roots of the index without them.
    """

    def __init__(self, folders: Sequence[str], roots: Sequence[str]) -> None:
        self.folders = folders
        self.roots = roots
        self.remaining = [root for root in roots if not any(is_below(root, folder) for folder in folders)]

    def holds(self, path: str) -> bool:
        """Whether a row's path (as stored) is to go."""
        return any(is_below(path, folder) for folder in self.folders)

    def check(self, paths: RootPaths, rows: Iterable[str]) -> None:
        """Refuse what can't be forgotten; `rows` are the paths that the index has.

        Raises:
            NotFound: The index knows no such folder.
            Misuse: A folder below a root has images: the next run would find them again.
        """
        for folder in self.folders:
            shown = shown_path(paths.absolute(folder))
            if any(is_below(root, folder) for root in self.roots):
                continue
            if not any(is_below(path, folder) for path in rows):
                have = ", ".join(shown_path(paths.absolute(root)) for root in self.roots) or "none"
                raise NotFound(f"{shown}: not one of the folders that the index is made of ({have}), nor below one")
            absolute = paths.absolute(folder)
            found = os.path.exists(absolute) and next(find_images([absolute]), None) is not None
            if found and any(is_below(folder, root) for root in self.remaining):
                raise Misuse(
                    f"{shown}: has images, and a folder that the index is made of holds it: they would be found again; "
                    "leave it out with --exclude, or forget the folder above"
                )
