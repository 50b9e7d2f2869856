"""One piece of an index, opened: strings and vectors mapped and proved as they are read, deleted rows passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from bt_cli.embeddings.vector_file import VectorFile
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import WAY_OUT, BlockSums, CheckedBytes, CheckedFile, damaged, read_sums
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.string_table import StringTable
from bt_cli.store.manifest import Piece

if TYPE_CHECKING:
    from bt_cli.store.approximate_index import ApproximateIndex


class OpenPiece:
    """A piece, opened for searching.

    Attributes:
        entry: What the manifest says of it.
        deleted: (n,) int64, ascending: rows that are no longer of the index.
        strings, vectors: Of its rows; format 1 has no flat vectors beside approximate ones.
        first: The id of its first row that is there.

    Raises:
        BrokenIndex: Its files do not fit together.
        FileNotFoundError: One is missing.
    """

    def __init__(self, folder: Path, entry: Piece, dimension: int, first: int = 0) -> None:
        self.folder = folder
        self.entry = entry
        self.first = first
        self.deleted = entry.deleted_rows()
        with _names(folder):
            self.sums = sums_of(folder, entry)
            self.strings = StringTable(folder / entry.strings, self.sums[entry.strings])
            self.lists: ApproximateIndex | None = None
            self.flat: VectorFile | None = None
            if entry.kind == "exact" or entry.lists:
                self.flat = VectorFile(folder / entry.vectors, self.sums[entry.vectors])
            if entry.kind != "exact":
                from bt_cli.store.approximate_index import ApproximateIndex

                name = entry.lists or entry.vectors
                self.lists = ApproximateIndex(folder / name, entry, self.flat, self.sums[name])
        vectors = self.flat or self.lists
        assert vectors is not None
        if not len(self.strings) == vectors.rows == entry.rows or vectors.dimension != dimension:
            raise BrokenIndex(f"{shown_path(folder)}: its files hold different numbers of rows; {WAY_OUT}")

    def __len__(self) -> int:
        return self.entry.rows - len(self.deleted)

    def rows_of_ids(self, ids: np.ndarray) -> np.ndarray:
        """Rows (n,) int64 of ids that are this piece's."""
        places = np.asarray(ids, np.int64) - self.first
        return places + np.searchsorted(self.deleted - np.arange(len(self.deleted)), places, side="right")

    def ids_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Ids (n,) int64 of rows; -1 for one that was deleted."""
        before = np.searchsorted(self.deleted, rows)
        gone = np.isin(rows, self.deleted)
        return np.where(gone, -1, self.first + rows - before)

    def live_rows(self) -> np.ndarray:
        """Rows that are there, ascending."""
        return np.delete(np.arange(self.entry.rows), self.deleted)

    def search(self, queries: np.ndarray, k: int, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorFile.search`, with ids for answers; `rows` (ascending) are those to look at, None for all."""
        if self.lists is not None and (rows is None or self.flat is None):
            scores, found = self.lists.search(queries, k, rows, self.deleted)
        else:
            assert self.flat is not None
            scores, found = self.flat.search(queries, k, rows, None if rows is not None else self.deleted)
        if len(self.deleted):
            return scores, np.where(found < 0, -1, self.ids_of_rows(found))
        return scores, np.where(found < 0, -1, found + self.first)

    def checked_table(self, file: IO[bytes] | np.ndarray) -> CheckedFile:
        """Its embedding table, open as `file` or `mapped`, as pyarrow reads it: blocks that are touched are proved."""
        return CheckedFile(self.folder / self.entry.table, file, self.sums[self.entry.table])

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of rows, (n, d) float32."""
        if self.flat is not None:
            return self.flat.rows_of(rows)
        assert self.lists is not None
        return self.lists.rows_of(rows)


def sums_of(folder: Path, entry: Piece) -> dict[str, BlockSums | None]:
    """The block sums of a piece's files, by name; None for each where the first format has none."""
    names = entry.summed()
    if entry.sums is None:
        return dict.fromkeys(names)
    return dict(zip(names, read_sums(folder / entry.sums, entry.sums_checksum, len(names)), strict=True))


def damages(folder: Path, entry: Piece) -> Iterator[BrokenIndex]:
    """What is wrong with a piece: each file whose bytes are not those that were written, read from end to end."""
    try:
        with _names(folder):
            sums = sums_of(folder, entry)
    except (BrokenIndex, FileNotFoundError) as error:
        yield error if isinstance(error, BrokenIndex) else missing(error.filename)
        return
    for name, expected in sums.items():
        try:
            with open_plain(folder / name) as file:
                if expected is not None and BlockSums.of(file) != expected:
                    yield damaged(folder / name)
        except FileNotFoundError:
            yield missing(folder / name)
        except OSError as error:
            yield unreadable(folder / name, error)


def open_owners(folder: Path, entry: Piece, sums: BlockSums | None) -> np.ndarray:
    """Where each caption's image is, (rows,) int64.

    Raises:
        BrokenIndex: The file is none that bt writes.
    """
    if not entry.owners:
        raise BrokenIndex(f"{shown_path(folder)}: its captions name no images; {WAY_OUT}")
    path = folder / entry.owners
    with _names(folder):
        try:
            with open_plain(path) as file:
                checked = CheckedBytes(path, file, sums)
                checked.require(0, len(checked.content))
            owners = np.load(path, mmap_mode="r")
        except (BrokenIndex, FileNotFoundError):
            raise
        except Exception as error:  # numpy takes the header for Python, which a damaged one may fail at in any way
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise damaged(path) from error
    if not isinstance(owners, np.ndarray) or owners.shape != (entry.rows,) or owners.dtype != np.int64:
        raise damaged(path)
    return owners


def missing(path: str | os.PathLike[str]) -> BrokenIndex:
    """What to raise where a file is not there."""
    return BrokenIndex(f"{shown_path(path)}: missing from the index; {WAY_OUT}")


def unreadable(path: str | os.PathLike[str], error: OSError) -> BrokenIndex:
    """What to raise where a file can't be read: a folder in its place, no permission, a bad disk."""
    return BrokenIndex(f"{shown_path(path)}: can't be read: {error.strerror or error}; {WAY_OUT}")


class _names:
    """Turns an OSError of reading a file of the folder into BrokenIndex that names it; a missing file is left to the
    caller, which may find a newer generation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise unreadable(error.filename or self.folder, error) from error
