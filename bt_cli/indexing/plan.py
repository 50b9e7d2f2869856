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

from bt_cli.datasets.exclusion import Exclusion, RootRules
from bt_cli.datasets.image_folder import IMAGE_SUFFIXES, content_hash, find_images, path_key
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.store.image_rows import ImageRows
from bt_cli.store.index_paths import RootPaths, is_below
from bt_cli.store.journal import Journal

ENCODE, JOURNAL = -1, -2


@dataclass
class Plan:
    """The rows of the next table and where each one's embedding comes from."""

    rows: ImageRows
    source: np.ndarray
    """(n,) int64: the row of the current table with the embedding, or JOURNAL, or ENCODE."""
    known: np.ndarray
    """(n,) bool: the current table has a row with this path."""
    unchanged: np.ndarray
    """(n,) bool: its content is that of its row."""
    removed: int
    """Rows of the current table whose path is gone."""
    current: ImageRows
    """The rows of the current table."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """(absolute path, reason) of files that could not even be looked at."""
    kept_folders: list[str] = field(default_factory=list)
    """Folders (absolute) that could not be read: the rows below them stay."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What the walk left out and why."""

    def changes_nothing(self, kept: np.ndarray) -> bool:
        """Whether the rows `kept` of the plan are the current table again, times and order included."""
        return (
            len(kept) == len(self.current)
            and np.array_equal(self.source[kept], np.arange(len(kept)))
            and np.array_equal(self.rows.mtime[kept], self.current.mtime)
            and [self.rows.paths[row] for row in kept] == self.current.paths
        )

    def to_encode(self) -> np.ndarray:
        """Rows that have to be encoded, ascending."""
        return np.flatnonzero(self.source == ENCODE)


def plan_update(
    roots: list[str],
    paths: RootPaths,
    current: ImageRows,
    journal: Journal,
    *,
    belongs_to: list[str] | None = None,
    exclusion: Exclusion | None = None,
) -> Plan:
    """Compare the files below `roots` (as stored; one that is gone holds nothing) with the current table and the
    journal. Rows below none of `belongs_to`, all roots of the index from now on, go; None lets all stay."""
    listing = _Listing(roots, paths, exclusion)
    row_of = {path: row for row, path in enumerate(current.paths)}
    stay = [
        row
        for row, path in enumerate(current.paths)
        if path not in listing.files
        and listing.is_out_of_sight(path, roots)
        and (belongs_to is None or any(is_below(path, root) for root in belongs_to))
    ]
    names = sorted([*listing.files, *(current.paths[row] for row in stay)], key=path_key)
    plan = Plan(
        ImageRows.blank(names),
        source=np.full(len(names), ENCODE, np.int64),
        known=np.zeros(len(names), bool),
        unchanged=np.zeros(len(names), bool),
        removed=len(row_of) - sum(name in row_of for name in names),
        current=current,
        unreadable=listing.unreadable,
        kept_folders=listing.closed_folders,
        passed_over=listing.passed_over,
    )
    encoded = {} if not len(names) else _journal_entries(journal)
    twins = _Twins(current)
    for position, name in enumerate(names):
        row = row_of.get(name)
        plan.known[position] = row is not None
        file = listing.files.get(name)
        if file is None:
            assert row is not None
            plan.rows.copy_rows([position], current, [row])
            plan.source[position], plan.unchanged[position] = row, True
            continue
        plan.rows.size[position], plan.rows.mtime[position] = file
        if row is not None and (current.size[row], current.mtime[row]) == file:
            source = row
        elif encoded.get(name) == file:
            source = JOURNAL
        else:
            source = twins.row(paths.absolute(name), file[0], row)
        plan.source[position] = source
        if source >= 0:
            for column in ("content_hash", "width", "height"):
                getattr(plan.rows, column)[position] = getattr(current, column)[source]
            plan.unchanged[position] = row is not None and current.content_hash[row] == current.content_hash[source]
    return plan


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


class _Listing:
    """What the file system has below the roots now."""

    def __init__(self, roots: list[str], paths: RootPaths, exclusion: Exclusion | None) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        """Stored path -> size and time of change."""
        self.unreadable: list[tuple[str, str]] = []
        self.closed_folders: list[str] = []
        self.paths = paths
        present = [path for path in map(paths.absolute, roots) if os.path.exists(path)]
        self.passed_over = PassedOver()
        for file in find_images(present, exclusion=exclusion, passed_over=self.passed_over, on_error=self._note):
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

    def __init__(self, current: ImageRows) -> None:
        self.current = current
        self.sizes = set(current.size.tolist())
        self.by_hash: dict[bytes, int] = {}

    def row(self, path: str, size: int, own_row: int | None) -> int:
        """The row of equal content (the file's own row before any other), or ENCODE."""
        if size not in self.sizes:
            return ENCODE
        if not self.by_hash:
            self.by_hash = {
                digest: row for row, digest in reversed(list(enumerate(self.current.content_hash.tolist())))
            }
        try:
            digest = content_hash(path).encode("ascii")
        except OSError:
            return ENCODE  # encoding will say what is wrong with it
        if own_row is not None and self.current.content_hash[own_row] == digest:
            return own_row
        return self.by_hash.get(digest, ENCODE)


def _journal_entries(journal: Journal) -> dict[str, tuple[int, int]]:
    """Path to (size, mtime) of what interrupted runs encoded."""
    entries: dict[str, tuple[int, int]] = {}
    for batch in journal.batches():
        rows = ImageRows.from_columns(batch)
        entries.update(zip(rows.paths, zip(rows.size.tolist(), rows.mtime.tolist(), strict=True), strict=True))
    return entries
