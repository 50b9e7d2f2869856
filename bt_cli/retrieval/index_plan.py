"""What an update of an index has to do: which images are unchanged, moved, new or gone, before anything is encoded.

A file with the size and time of its row is unchanged and not opened. One whose size is that of some row is hashed;
where the hash is a row's too, the file was touched, moved or copied and takes that row's vector. All others are
encoded. Rows vanish only below the roots that were looked at, and never below a folder that could not be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from bt_cli.datasets.image_folder import IMAGE_SUFFIXES, content_hash, find_images, path_key
from bt_cli.store.image_rows import ImageRows
from bt_cli.store.journal import Journal

ENCODE, JOURNAL = -1, -2


class RootPaths:
    """The two forms of a path: absolute, and as the table stores it, relative to `home` where it lies below.

    Args:
        home: The folder above the index folder, absolute.
    """

    def __init__(self, home: str) -> None:
        self.home = home

    def absolute(self, stored: str) -> str:
        """A stored path to open."""
        return os.path.normpath(os.path.join(self.home, stored))

    def stored(self, path: str) -> str:
        """A path as it is stored; relative ones are taken from the working directory."""
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


def is_below(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it; both absolute, or both stored (where `.` is the root of all
    relative ones)."""
    if root == os.curdir:
        return not os.path.isabs(path)
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@dataclass
class Plan:
    """The rows of the next table and where each one's embedding comes from."""

    rows: ImageRows
    source: np.ndarray
    """(n,) int64: the row of the standing table with the embedding, or JOURNAL, or ENCODE."""
    known: np.ndarray
    """(n,) bool: the standing table has a row with this path."""
    unchanged: np.ndarray
    """(n,) bool: its content is that of its row."""
    removed: int
    """Rows of the standing table whose path is gone."""
    standing: ImageRows
    """The rows of the standing table."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """(absolute path, reason) of files that could not even be looked at."""
    kept_folders: list[str] = field(default_factory=list)
    """Folders (absolute) that could not be read: the rows below them stay."""

    def changes_nothing(self, kept: np.ndarray) -> bool:
        """Whether the rows `kept` of the plan are the standing table again, times and order included."""
        return (
            len(kept) == len(self.standing)
            and np.array_equal(self.source[kept], np.arange(len(kept)))
            and np.array_equal(self.rows.mtime[kept], self.standing.mtime)
            and [self.rows.paths[row] for row in kept] == self.standing.paths
        )

    def to_encode(self) -> np.ndarray:
        """Rows that have to be encoded, ascending."""
        return np.flatnonzero(self.source == ENCODE)


def plan_update(
    roots: list[str], paths: RootPaths, standing: ImageRows, journal: Journal, *, belongs_to: list[str] | None = None
) -> Plan:
    """Compare the files below `roots` (as stored; one that is gone holds nothing) with the standing table and the
    journal. Rows below none of `belongs_to`, all roots of the index from now on, go; None lets all stay."""
    listing = _Listing(roots, paths)
    row_of = {path: row for row, path in enumerate(standing.paths)}
    stay = [
        row
        for row, path in enumerate(standing.paths)
        if path not in listing.files
        and listing.is_out_of_sight(path, roots)
        and (belongs_to is None or any(is_below(path, root) for root in belongs_to))
    ]
    names = sorted([*listing.files, *(standing.paths[row] for row in stay)], key=path_key)
    plan = Plan(
        ImageRows.blank(names),
        source=np.full(len(names), ENCODE, np.int64),
        known=np.zeros(len(names), bool),
        unchanged=np.zeros(len(names), bool),
        removed=len(row_of) - sum(name in row_of for name in names),
        standing=standing,
        unreadable=listing.unreadable,
        kept_folders=listing.closed_folders,
    )
    encoded = {} if not len(names) else _journal_entries(journal)
    twins = _Twins(standing)
    for position, name in enumerate(names):
        row = row_of.get(name)
        plan.known[position] = row is not None
        file = listing.files.get(name)
        if file is None:
            assert row is not None
            plan.rows.copy_rows([position], standing, [row])
            plan.source[position], plan.unchanged[position] = row, True
            continue
        plan.rows.size[position], plan.rows.mtime[position] = file
        if row is not None and (standing.size[row], standing.mtime[row]) == file:
            source = row
        elif encoded.get(name) == file:
            source = JOURNAL
        else:
            source = twins.row(paths.absolute(name), file[0], row)
        plan.source[position] = source
        if source >= 0:
            for column in ("content_hash", "width", "height"):
                getattr(plan.rows, column)[position] = getattr(standing, column)[source]
            plan.unchanged[position] = row is not None and standing.content_hash[row] == standing.content_hash[source]
    return plan


def merge_roots(roots: Iterable[str], paths: RootPaths) -> list[str]:
    """Roots (as stored) in their order, without those that another one covers anyway."""
    unique = list(dict.fromkeys(roots))
    return [root for root in unique if not any(other != root and covers(other, root, paths) for other in unique)]


def covers(root: str, path: str, paths: RootPaths) -> bool:
    """Whether looking through `root` comes by `path` (both as stored): below it, not hidden, and a folder or by its
    suffix an image. A file without a suffix is not counted on: its first bytes decide, and they may change."""
    if not is_below(path, root) or path == root:
        return path == root
    tail = path if root == os.curdir else path[len(root.rstrip(os.sep)) + 1 :]
    suffix = os.path.splitext(path)[1].lower()
    hidden = any(part.startswith(".") for part in tail.split(os.sep))
    return not hidden and (suffix in IMAGE_SUFFIXES or (suffix == "" and not os.path.isfile(paths.absolute(path))))


class _Listing:
    """What the file system has below the roots now."""

    def __init__(self, roots: list[str], paths: RootPaths) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        """Stored path -> size and time of change."""
        self.unreadable: list[tuple[str, str]] = []
        self.closed_folders: list[str] = []
        self.paths = paths
        present = [path for path in map(paths.absolute, roots) if os.path.exists(path)]
        for file in find_images(present, on_error=self._note):
            self.files[self._stored(file.path)] = (file.size, file.mtime_ns)
        self.closed = [self._stored(folder) for folder in self.closed_folders]

    def is_out_of_sight(self, stored: str, roots: list[str]) -> bool:
        """Whether the run can say nothing about a path: not below the roots, or below a folder that can't be read."""
        return not any(is_below(stored, root) for root in roots) or any(
            is_below(stored, folder) for folder in self.closed
        )

    def _stored(self, absolute: str) -> str:
        home = self.paths.home.rstrip(os.sep) + os.sep
        return absolute[len(home) :] if absolute.startswith(home) else absolute

    def _note(self, path: str, error: OSError) -> None:
        if os.path.isdir(path):
            self.closed_folders.append(path)
        else:
            self.unreadable.append((path, error.strerror or str(error)))


class _Twins:
    """Finds the row that has the same content as a file, hashing only files whose size is that of some row."""

    def __init__(self, standing: ImageRows) -> None:
        self.standing = standing
        self.sizes = set(standing.size.tolist())
        self.by_hash: dict[bytes, int] = {}

    def row(self, path: str, size: int, own_row: int | None) -> int:
        """The row of equal content (the file's own row before any other), or ENCODE."""
        if size not in self.sizes:
            return ENCODE
        if not self.by_hash:
            self.by_hash = {
                digest: row for row, digest in reversed(list(enumerate(self.standing.content_hash.tolist())))
            }
        try:
            digest = content_hash(path).encode("ascii")
        except OSError:
            return ENCODE  # encoding will say what is wrong with it
        if own_row is not None and self.standing.content_hash[own_row] == digest:
            return own_row
        return self.by_hash.get(digest, ENCODE)


def _journal_entries(journal: Journal) -> dict[str, tuple[int, int]]:
    """Path to (size, mtime) of what interrupted runs encoded."""
    entries: dict[str, tuple[int, int]] = {}
    for batch in journal.batches():
        rows = ImageRows.from_columns(batch)
        entries.update(zip(rows.paths, zip(rows.size.tolist(), rows.mtime.tolist(), strict=True), strict=True))
    return entries
