"""An index from tables that `bt encode images` wrote, on whatever machines: nothing is encoded.

The tables' rows are put in the order of their paths, as those of any index are, and their vectors go straight from the
Parquet files to their places, a row group at a time: what is held in memory is the rows without their embeddings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.embeddings.image_rows import HASH, ImageRows
from bt_cli.embeddings.kept_columns import blank_kept
from bt_cli.errors import EmptyFolder, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.files.temporary_folder import temporary_folder
from bt_cli.indexing.build import no_folder_for_nothing
from bt_cli.indexing.factory import kept_factory, require_factory
from bt_cli.indexing.summary import IndexSummary
from bt_cli.kept.names import require_names
from bt_cli.sources.web_address import is_in_store
from bt_cli.store.index_folder import require_name
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.manifest import IMAGES
from bt_cli.store.stored_rows import StoredRows, joined_paths
from bt_cli.store.table_part import TablePart, same_maker

LOG = logging.getLogger("bt_cli")
SUFFIXES = (".parquet", ".pq")
COPIES_AT_A_TIME = 8
PATHS_AT_A_TIME = 1 << 20
"""Paths that are looked for at once: where a hash of them is needed, it is made for all of these together."""


@contextlib.contextmanager
def tables_here(names: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """The files of `table_files`, those named by an address of a store copied here for as long as the block lasts.

    Raises:
        NotFound, EmptyFolder: As `table_files`; the store can't be reached, or there is no room for a copy.
    """
    with temporary_folder() as folder, ThreadPoolExecutor(COPIES_AT_A_TIME) as threads:
        copied: list[str | os.PathLike[str]] = []
        for name in names:
            copied += _copied(name, folder, threads) if is_in_store(os.fspath(name)) else [name]
        yield table_files(copied)


def _copied(name: str | os.PathLike[str], folder: Path, threads: ThreadPoolExecutor) -> list[Path]:
    from bt_cli.sources.remote_file import fetch_remote, listed

    def fetch(url: str) -> Path:
        scheme, _, path = url.partition("://")
        here = folder / scheme / path  # so that whatever is said of the copy says which table it is
        here.parent.mkdir(parents=True, exist_ok=True)
        fetch_remote(url, here)
        return here

    url = os.fspath(name)
    try:
        found = listed(url)
        urls = [url] if found is None else [file.url for file in found if file.url.lower().endswith(SUFFIXES)]
        if not urls:
            raise EmptyFolder(f"{shown_path(url)}: no Parquet table there; bt encode images -o DIR/ writes them")
        return list(threads.map(fetch, urls))
    except OSError as error:
        raise NotFound(f"{shown_path(url)}: {error.strerror or error}") from error


def table_files(names: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The Parquet files that are named, and those in each folder that is, by name; each once.

    Raises:
        NotFound: One is not there.
        EmptyFolder: There is no Parquet file in a folder.
    """
    found: dict[str, Path] = {}
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(
                path for path in name.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            )
            if not inside:
                raise EmptyFolder(f"{shown_path(name)}: no Parquet table there; bt encode images -o DIR/ writes them")
        elif name.exists():
            inside = [name]
        else:
            raise NotFound(f"{shown_path(name)}: no such file or folder")
        for path in inside:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def index_tables(
    index: str | os.PathLike[str],
    tables: Sequence[str | os.PathLike[str]],
    *,
    rebuild: bool = False,
    factory: str | None = None,
    compact: bool = False,
    keep: Sequence[str] | None = None,
) -> IndexSummary:
    """Bring the rows of tables into an index, or make it of them.

    A row takes the place of one of the same path, in the index or in an earlier table, unless it is the same image.
    Rows that no table has stay, as do the index's captions and folders.

    Args:
        index: The index folder; made where it is missing.
        tables: Parquet files, and folders of such; those in a store, by their addresses, are copied to this machine
            for the time that it takes.
        rebuild: Take up nothing of an index that is there.
        factory: As `build_index`.
        compact: As `build_index`.
        keep: Columns that the index carries along; None: those that it has, and those of the tables.

    Raises:
        NotFound, EmptyFolder: A table is not there; a folder holds none.
        UnreadableTable: A table is damaged, or none of images.
        IndexMismatch: Two tables, or a table and the index, were made in different ways.
        IndexBusy, BrokenIndex, Unwritable: see `IndexWriter`.
    """
    start = time.monotonic()
    with tables_here(tables) as paths:
        summary = _index_tables(index, paths, rebuild, factory, compact, keep)
    summary.seconds = time.monotonic() - start
    return summary


def _index_tables(
    index: str | os.PathLike[str],
    paths: Sequence[Path],
    rebuild: bool,
    factory: str | None,
    compact: bool,
    keep: Sequence[str] | None,
) -> IndexSummary:
    require_name(index)
    parts = [TablePart.open(path) for path in paths]
    identity = same_maker(parts)
    if "+" in identity.precision:
        LOG.warning("tables of several precisions: %s", identity.precision.replace("+", ", "))
    require_factory(factory, identity.dimension)
    summary = IndexSummary(index=os.fspath(index))
    with (
        no_folder_for_nothing(Path(index)),
        IndexWriter(index, identity, dtype=parts[0].dtype, rebuild=rebuild) as writer,
    ):
        current = writer.manifest
        writer.kind = current.kind if current else parts[0].kind or IMAGES
        writer.require_kind(parts[0].kind or IMAGES)
        carried = list(dict.fromkeys(name for part in parts for name in part.keep))
        names = list(dict.fromkeys([*(current.keep if current else []), *carried])) if keep is None else list(keep)
        require_names(names)
        found = _Found(parts, writer.home(), writer.stored, [name for name in names if name in carried])
        if found.repeated:
            LOG.warning(
                "%s paths stand in several tables, or several times in one: the last row of each is taken",
                f"{found.repeated:,}",
            )
        rows, source, known = found.rows_to_take()
        wanted = kept_factory(factory, current.factory if current else None)
        is_other = current is None or compact or wanted != current.factory or names != current.keep
        if len(rows) or is_other or writer.must_commit:
            writer.commit(
                rows,
                source + len(writer.stored),
                np.sort(known[known >= 0]),
                roots=list(current.roots) if current else [],
                captions=writer.caption_rows(),
                factory=wanted,
                exclude=current.exclude if current else (),
                default_excludes=current.default_excludes if current else True,
                keep=names,
                compact=compact,
                tables=[part.as_piece() for part in parts],
            )
        summary.added = int((known < 0).sum())
        summary.updated = len(rows) - summary.added
        summary.unchanged = writer.manifest.rows - len(rows) if writer.manifest else 0
        summary.captions = writer.manifest.captions.rows if writer.manifest and writer.manifest.captions else 0
    return summary


class _Found:
    """The rows of tables beside those of an index: of each row its number through the tables, the id in the index that
    has its path, and its hash; some 80 bytes a row, and nothing else of those that the index has already.

    Attributes:
        repeated: Rows whose path comes again behind them.
    """

    def __init__(self, parts: Sequence[TablePart], home: str, stored: StoredRows, keep: Sequence[str]) -> None:
        self.parts = parts
        self.home = home
        self.first = np.cumsum([0, *(part.rows for part in parts)])
        self.ids = np.full(int(self.first[-1]), -1, np.int64)
        """(n,): of the row of the index with this path, -1 for a new one."""
        changed = np.ones(len(self.ids), bool)
        if len(stored):
            digests = np.empty(len(self.ids), HASH)
            names: list[Any] = []
            sought = 0
            for part, begin, end in zip(parts, self.first.tolist(), self.first[1:].tolist(), strict=False):
                paths, digests[begin:end] = part.read_paths(home)
                names.append(paths)
                if end - sought >= PATHS_AT_A_TIME or end == len(self.ids):
                    self.ids[sought:end] = stored.find(joined_paths(names))
                    names, sought = [], end
            last = np.full(len(stored), -1, np.int64)
            rows = np.flatnonzero(self.ids >= 0)
            last[self.ids[rows]] = rows  # of several the last stays
            changed[rows] = last[self.ids[rows]] == rows
            self.repeated = len(rows) - int(changed[rows].sum())
            changed[self._with_same_columns(_same(last, digests, stored), stored, keep)] = False
        else:
            self.repeated = 0
        self.wanted = np.flatnonzero(changed)
        """Rows that the index lacks or has otherwise, new paths several times where they are repeated."""
        self._rows = self._read()
        self._drop_repeats()

    def rows_to_take(self) -> tuple[ImageRows, np.ndarray, np.ndarray]:
        """The rows that are new or other than in the index, the number of each, and its id or -1."""
        return self._rows, self.wanted, self.ids[self.wanted]

    def _with_same_columns(self, rows: np.ndarray, stored: StoredRows, keep: Sequence[str]) -> np.ndarray:
        """Those of some rows of known paths with the same in the columns that are carried along."""
        if not keep:
            return rows
        rows = np.sort(rows)
        same = np.ones(len(rows), bool)
        for part, begin, end in zip(self.parts, self.first, self.first[1:], strict=False):
            first, last = np.searchsorted(rows, [begin, end])
            mine = rows[first:last]
            held = part.read_rows(self.home).kept
            for name in keep:
                here = held[name][mine - begin] if name in held else blank_kept(len(mine))
                same[first:last] &= (stored.kept(name, self.ids[mine]) == here).astype(bool)
        return rows[same]

    def _read(self) -> ImageRows:
        found = []
        for part, begin, end in zip(self.parts, self.first, self.first[1:], strict=False):
            first, last = np.searchsorted(self.wanted, [begin, end])
            if first < last:
                found.append(part.read_rows(self.home).take(self.wanted[first:last] - begin))
        return ImageRows.joined(found) if found else ImageRows.blank([])

    def _drop_repeats(self) -> None:
        paths = self._rows.paths
        if len(set(paths)) < len(paths):
            last = np.array(sorted(dict(zip(paths, range(len(paths)), strict=True)).values()), np.int64)
            self.repeated += len(paths) - len(last)
            self._rows, self.wanted = self._rows.take(last), self.wanted[last]


def _same(row_of: np.ndarray, digests: np.ndarray, stored: StoredRows) -> np.ndarray:
    """The rows whose image is that of the index's row with their path; `row_of` has the row of each id, or -1."""
    same = []
    first = 0
    for held in stored.digests():
        rows = row_of[first : first + len(held)]
        same.append(rows[(rows >= 0) & (digests[rows] == held)])
        first += len(held)
    return np.concatenate(same)
