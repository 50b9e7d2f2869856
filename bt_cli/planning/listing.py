"""What lies below the roots of an index now, before it is compared with what the index has."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.folder_files import FolderFiles
from bt_cli.datasets.image_folder import ImageFile, find_runs
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.paths.index_paths import RootPaths, is_below
from bt_cli.paths.path_text import address_rows
from bt_cli.planning.absence import absent_folder
from bt_cli.planning.roots import is_there
from bt_cli.sources.member import SUFFIXES as SHARD_SUFFIXES
from bt_cli.sources.web_address import is_url
from bt_cli.store.stored_rows import StoredRows, joined_paths, path_array

LATEST = 2**63 - 1
"""Nanoseconds: a file system may know times beyond what a timestamp holds."""
FILES_AT_A_TIME = 1 << 14


class Listing:
    """What the file system has below the roots now, as arrays: some 100 bytes a file."""

    def __init__(
        self,
        roots: list[str],
        paths: RootPaths,
        exclusion: Exclusion | None,
        shards: KnownShards,
        opened: Callable[[str], str],
    ) -> None:
        self.unreadable: list[tuple[str, str]] = []
        self.closed_folders: list[str] = []
        self.paths = paths
        present = [path for path in map(opened, roots) if is_url(path) or os.path.exists(path)]
        self.passed_over = PassedOver()
        found = find_runs(
            present,
            exclusion=exclusion,
            passed_over=self.passed_over,
            on_error=self._note,
            known_members=shards.members,
        )
        blocks = _Blocks(paths.home)
        for images in found:
            blocks.add(images)
        blocks.end()
        self.names = joined_paths(blocks.names)
        """(n,) large_binary: stored paths."""
        self.size, self.mtime = np.concatenate(blocks.sizes), np.concatenate(blocks.times)
        """(n,) int64 each: bytes and nanoseconds."""
        self.on_web = _web_addresses(self.names)
        """(n,): those whose path is an address."""
        self.unknown = self.on_web & (self.size == 0) & (self.mtime == 0)
        """(n,): those of which nothing else is known before they are fetched."""
        self.closed = [self._stored(folder) for folder in self.closed_folders]
        self.closed += [self._stored(path) for path, _ in self.unreadable]
        self.folders: set[str] | None = None
        self._run_folders = [os.path.dirname(self._stored(os.path.join(folder, "."))) for folder in blocks.folders]
        self._singles = blocks.singles

    def name(self, number: int) -> str:
        """A stored path, as the file system functions take it."""
        return os.fsdecode(self.names[number].as_py())

    def absent_folder(self, stored: str, roots: list[str]) -> str | None:
        """The folder without images that a missing file was in; None where the file alone is gone."""
        if stored not in roots:
            return absent_folder(stored, roots, self.has_images)
        folder = os.path.dirname(stored)
        return None if is_there(self.paths.absolute(folder)) else folder

    def has_images(self, folder: str) -> bool:
        """Whether an image was found below a folder, at any depth."""
        if self.folders is None:
            self.folders = set()
            singles = (os.path.dirname(self.name(place)) for places in self._singles for place in places)
            for above in (*self._run_folders, *singles):
                while above not in self.folders:
                    self.folders.add(above)
                    above = os.path.dirname(above)
        return ("" if folder == os.curdir else folder) in self.folders

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


class KnownShards:
    """Tar files: which are as the index knows them, so that their rows say what they hold, and which there are now."""

    def __init__(self, known: Mapping[str, Sequence[int]], stored: StoredRows, paths: RootPaths) -> None:
        self.known = known
        self.stored = stored
        self.paths = paths
        self.seen: dict[str, tuple[int, int]] = {}
        self._rows: dict[str, list[int]] | None = None

    def members(self, shard: ImageFile) -> Iterable[ImageFile] | None:
        """The images of a tar file by the index's rows; None where it has to be opened."""
        name = self.paths.stored(shard.path)
        stamp = shard.size, shard.mtime_ns
        self.seen[name] = stamp
        if tuple(self.known.get(name, ())) != stamp:
            return None
        if self._rows is None:
            self._rows = self._by_shard()
        home = shard.path[: len(shard.path) - len(name)] if shard.path.endswith(name) else None
        sizes = self.stored.column("size")
        return [
            ImageFile(
                f"{home}{path}" if home is not None else self.paths.absolute(path), int(sizes[row]), shard.mtime_ns
            )
            for row in self._rows.get(name, [])
            for path in [self.stored.path(row)]
        ]

    def _by_shard(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in self.known}
        ends = tuple(f"{suffix}/".encode() for suffix in SHARD_SUFFIXES)
        for row, path in enumerate(self.stored.paths.to_pylist()):
            if any(end in path.lower() for end in ends):
                name = shard_of(os.fsdecode(path), found)
                if name is not None:
                    found[name].append(row)
        return found


def shard_of(path: str, shards: Container[str]) -> str | None:
    """Which of the shards, as stored, an image's stored path lies in; None for none of them."""
    above = (path[:place] for place, letter in enumerate(path) if letter == "/")
    return next((name for name in above if name in shards), None)


class _Blocks:
    """What a walk finds as arrays, some thousands of files in each."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.names: list[Any] = []
        """large_binary each: stored paths."""
        self.sizes: list[np.ndarray] = [np.empty(0, np.int64)]
        self.times: list[np.ndarray] = [np.empty(0, np.int64)]
        self.folders: list[str] = []
        """Absolute: those whose images came all at once."""
        self.singles: list[range] = []
        """Places of the others."""
        self._singles: list[ImageFile] = []
        self._all = 0
        self._texts: list[bytes] = []
        self._count = 0

    def add(self, found: ImageFile | FolderFiles) -> None:
        """Take up what comes next."""
        if isinstance(found, FolderFiles):
            self._end_singles()
            self.folders.append(found.folder)
            self._all += len(found.sizes)
            self._add(found.paths(), np.frombuffer(found.sizes, np.int64), np.frombuffer(found.times, np.int64))
        else:
            self._singles.append(found)
            if len(self._singles) >= FILES_AT_A_TIME:
                self._end_singles()

    def end(self) -> None:
        """Make arrays of what is left."""
        self._end_singles()
        self._end_texts()

    def _end_singles(self) -> None:
        if not self._singles:
            return
        paths = [file.path for file in self._singles]
        text = os.fsencode("\0".join(paths))
        size = np.array([file.size for file in self._singles], np.int64)
        mtime = _times([file.mtime_ns for file in self._singles])
        self._singles = []
        self.singles.append(range(self._all, self._all + len(paths)))
        self._all += len(paths)
        if text.count(b"\0") == len(paths) - 1:
            self._add(text, size, mtime)
        else:  # an address may have a zero byte
            self._end_texts()
            above = self.home.rstrip(os.sep) + os.sep
            self.names.append(path_array([path.removeprefix(above) for path in paths]))
            self.sizes.append(size)
            self.times.append(mtime)

    def _add(self, paths: bytes, size: np.ndarray, mtime: np.ndarray) -> None:
        self._texts.append(paths)
        self.sizes.append(size)
        self.times.append(mtime)
        self._count += len(size)
        if self._count >= FILES_AT_A_TIME:
            self._end_texts()

    def _end_texts(self) -> None:
        if self._texts:
            self.names.append(_name_array(b"\0".join(self._texts), self._count, self.home))
            self._texts, self._count = [], 0


def _name_array(paths: bytes, count: int, home: str) -> Any:
    """(n,) large_binary of absolute paths, a zero byte between two, as they are stored: relative where they lie below
    `home`."""
    import pyarrow as pa

    above = os.fsencode(home.rstrip(os.sep) + os.sep)
    text = (b"\0" + paths).replace(b"\0" + above, b"\0")
    begins = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
    offsets = np.append(begins, len(text)) - np.arange(len(begins) + 1)
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(text.replace(b"\0", b""))]
    return pa.Array.from_buffers(pa.large_binary(), count, buffers)


def _times(mtime_ns: list[int]) -> np.ndarray:
    try:
        return np.array(mtime_ns, np.int64)
    except OverflowError:
        return np.array([max(min(time, LATEST), -LATEST) for time in mtime_ns], np.int64)


def _web_addresses(names: Any) -> np.ndarray:
    """(n,) bool: those of some paths that are addresses."""
    found = np.zeros(len(names), bool)
    if len(names):
        _, offsets, text = names.buffers()
        rows = address_rows(np.frombuffer(text, np.uint8), np.frombuffer(offsets, np.int64))
        for row in rows.tolist():
            found[row] = is_url(os.fsdecode(names[row].as_py()))
    return found
