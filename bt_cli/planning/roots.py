"""The roots of an index: the folders, files and addresses that it is made of, and which of them a run looks through."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bt_cli.datasets.exclusion import Exclusion, RootRules
from bt_cli.datasets.image_folder import IMAGE_SUFFIXES
from bt_cli.errors import NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.index_paths import RootPaths, is_below
from bt_cli.sources.web_address import is_url


def merge_roots(roots: Iterable[str], paths: RootPaths, exclusion: Exclusion | None = None) -> list[str]:
    """Roots (as stored) in their order, without those that another one covers anyway."""
    unique = list(dict.fromkeys(roots))
    return [
        root for root in unique if not any(other != root and covers(other, root, paths, exclusion) for other in unique)
    ]


def covers(root: str, path: str, paths: RootPaths, exclusion: Exclusion | None = None) -> bool:
    """Whether looking through `root` comes by `path` (both as stored): below it, not left out on the way,
    and a folder or by its suffix an image. Another file is not counted on: its first bytes decide, and may change."""
    if not is_below(path, root) or path == root:
        return path == root
    place = paths.absolute(path)
    if os.path.splitext(path)[1].lower() not in IMAGE_SUFFIXES and os.path.isfile(place):
        return False
    return not RootRules(paths.absolute(root), exclusion or Exclusion()).excludes_below(place)


def is_excluded(path: str, roots: list[str], paths: RootPaths, exclusion: Exclusion | None) -> bool:
    """Whether the walk from the root that holds a path (both as stored) leaves it out: that is no absence."""
    holding = [root for root in roots if is_below(path, root) and path != root]
    place = paths.absolute(path)
    return bool(holding) and all(
        RootRules(paths.absolute(root), exclusion or Exclusion()).excludes_below(place) for root in holding
    )


def is_there(root: str) -> bool:
    """Whether something is at a known root; a folder that is empty is none, for a disk may not be mounted there."""
    if is_url(root):
        return True
    if os.path.isdir(root):
        try:
            return next(os.scandir(root), None) is not None
        except OSError:
            return True  # the walk will say why it can't be read
    return os.path.exists(root)


def existing(root: str | os.PathLike[str]) -> str:
    path = os.fspath(root)
    if not (os.path.exists(path) or is_url(path)):
        raise NotFound(f"{shown_path(path)}: no such file or folder")
    return path


def fresh(given: list[str], known: list[str]) -> list[str]:
    """The roots that are neither in a known one nor hold one."""
    return [root for root in given if not any(is_below(root, other) or is_below(other, root) for other in known)]


def roots_of_run(
    paths: RootPaths, given: list[str], known: list[str], rebuild: bool, exclusion: Exclusion
) -> tuple[list[str], list[str]]:
    """(roots to look through now, roots of the index from now on)."""
    if rebuild and given:
        return merge_roots(given, paths, exclusion), merge_roots(given, paths, exclusion)
    if given:
        below = [root for root in known if any(is_below(root, other) for other in given)]
        return merge_roots([*given, *below], paths, exclusion), merge_roots([*known, *given], paths, exclusion)
    if rebuild:
        require_all(paths, known)
    return known, known


def require_all(paths: RootPaths, known: list[str]) -> None:
    """Refuse to make an index anew without one of its roots: nothing of the old rows would stay.

    Raises:
        NotFound: Names the root and how to leave it out.
    """
    for root in known:
        if not is_there(paths.absolute(root)):
            shown = shown_path(paths.absolute(root))
            raise NotFound(f"{shown}: not there now; bring it back, or let it go with --forget FOLDER")
