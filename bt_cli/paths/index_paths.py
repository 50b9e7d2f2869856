"""The paths of an index: the folder that relative ones start from, and their stored and absolute forms."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bt_cli.sources.web_address import is_url


def home_of(folder: str | os.PathLike[str], recorded: str | None = None) -> str:
    """The folder above an index folder, absolute.

    An index that is reached through a link has two: the one that holds the link and the one that holds the folder
    itself. Either may be meant (an index kept on another disk and linked beside its images; a link to a library
    with its index), so the one that the index was written from decides.

    Args:
        folder: The index folder; it need not exist.
        recorded: `Manifest.home`, where there is a manifest.

    Returns:
        The folder that holds `folder` by its name, unless `recorded` is the real one.
    """
    by_name = os.path.dirname(os.path.abspath(folder))
    real = os.path.dirname(os.path.realpath(folder))
    return real if real == recorded else by_name


class RootPaths:
    """The two forms of a path: absolute, and as the table stores it, relative to `home` where it lies below.

    Args:
        home: The folder above the index folder, absolute.
    """

    def __init__(self, home: str) -> None:
        self.home = home

    def absolute(self, stored: str) -> str:
        """A stored path to open; an address on the web is one as it stands."""
        if is_url(stored):
            return stored
        return os.path.normpath(os.path.join(self.home, stored))

    def stored(self, path: str) -> str:
        """A path as it is stored; relative ones are taken from the working directory."""
        if is_url(path):
            return path
        absolute = os.path.abspath(path)
        if ".." in path.split(os.sep) and not (os.path.exists(absolute) and os.path.samefile(absolute, path)):
            absolute = os.path.realpath(path)  # "link/.." does not lead back to where the link lies
        return os.path.relpath(absolute, self.home) if is_below(absolute, self.home) else absolute

    def given(self, roots: Iterable[str], known: Iterable[str]) -> list[str]:
        """Roots as they are stored, a folder that a known root or an earlier one holds by that root's name.

        A folder reached by a link would otherwise be a second root with rows of its own for the same files.
        """
        real = {
            os.path.realpath(path): root for root in reversed(list(known)) if os.path.isdir(path := self.absolute(root))
        }
        stored = []
        for root in roots:
            name = self.stored(root)
            if os.path.isdir(root):
                name = self._by_known_name(name, os.path.realpath(root), real)
                real.setdefault(os.path.realpath(root), name)
            stored.append(name)
        return stored

    def _by_known_name(self, stored: str, target: str, known: dict[str, str]) -> str:
        for real, root in known.items():
            if is_below(target, real):
                tail = os.path.relpath(target, real)
                if tail == os.curdir or not any(part.startswith(".") for part in tail.split(os.sep)):
                    return os.path.normpath(os.path.join(root, tail))
        return stored  # what is hidden in its own place is found by the link alone


def path_from(here: str, path: str, home: str) -> str:
    """A path of an index, to be opened and shown from a working directory.

    Relative to the working directory for a file below it, or where that lies itself below the index's own folder (as
    git shows them), else absolute.

    Args:
        here: The working directory.
        path: The file, absolute, or an address on the web.
        home: The folder above the index folder, absolute.
    """
    if is_url(path):
        return path
    within = is_below(path, home) and is_below(here, home)
    return os.path.relpath(path, here) if within or is_below(path, here) else path


def is_below(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it; both absolute, or both stored (where `.` is the root of all
    relative ones)."""
    if root == os.curdir:
        return not os.path.isabs(path)
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
