"""An index from tables that `bt encode images` wrote, on whatever machines: nothing is encoded.

The tables' rows are put in the order of their paths, as those of any index are, and their vectors go straight from the
Parquet files to their places, a row group at a time: what is held in memory is the rows without their embeddings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bt_cli.errors import EmptyFolder, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.build import no_folder_for_nothing
from bt_cli.indexing.factory import kept_factory, require_factory
from bt_cli.indexing.summary import IndexSummary
from bt_cli.kept.names import require_names
from bt_cli.sources.web_address import is_in_store
from bt_cli.store.image_rows import ImageRows
from bt_cli.store.index_folder import require_name
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.manifest import IMAGES
from bt_cli.store.stored_rows import StoredRows, path_array
from bt_cli.store.table_part import TablePart, same_maker

LOG = logging.getLogger("bt_cli")
SUFFIXES = (".parquet", ".pq")
COPIES_AT_A_TIME = 8


@contextlib.contextmanager
def tables_here(names: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """The files of `table_files`, those named by an address of a store copied here for as long as the block lasts.

    Raises:
        NotFound, EmptyFolder: As `table_files`; the store can't be reached, or there is no room for a copy.
    """
    with tempfile.TemporaryDirectory(prefix="bt-") as folder, ThreadPoolExecutor(COPIES_AT_A_TIME) as threads:
        copied: list[str | os.PathLike[str]] = []
        for name in names:
            copied += _copied(name, Path(folder), threads) if is_in_store(os.fspath(name)) else [name]
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
        rows, source = _rows_of(parts, writer.home())
        repeated = _without_repeats(rows, source)
        if len(repeated) < len(rows):
            LOG.warning(
                "%s paths stand in several tables, or several times in one: the last row of each is taken",
                f"{len(rows) - len(repeated):,}",
            )
        rows, source = rows.take(repeated), source[repeated]
        before = current.keep if current else []
        names = list(dict.fromkeys([*before, *rows.kept])) if keep is None else list(keep)
        require_names(names)
        known, same = _known_rows(rows, writer.stored, [name for name in names if name in rows.kept])
        new = np.flatnonzero(~same)
        wanted = kept_factory(factory, current.factory if current else None)
        is_other = current is None or compact or wanted != current.factory or names != current.keep
        if len(new) or is_other or writer.must_commit:
            writer.commit(
                rows.take(new),
                source[new] + len(writer.stored),
                np.sort(known[new][known[new] >= 0]),
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
        summary.updated = len(new) - summary.added
        summary.unchanged = writer.manifest.rows - len(new) if writer.manifest else 0
        summary.captions = writer.manifest.captions.rows if writer.manifest and writer.manifest.captions else 0
    return summary


def _rows_of(parts: Sequence[TablePart], home: str) -> tuple[ImageRows, np.ndarray]:
    """The rows of all tables, and which each is, counted through the tables."""
    rows = ImageRows.joined([part.read_rows(home) for part in parts])
    return rows, np.arange(len(rows), dtype=np.int64)


def _without_repeats(rows: ImageRows, source: np.ndarray) -> np.ndarray:
    """(n,) ascending: the last row of each path."""
    if len(set(rows.paths)) == len(rows):
        return source
    return np.array(sorted(dict(zip(rows.paths, source.tolist(), strict=True)).values()), np.int64)


def _known_rows(rows: ImageRows, stored: StoredRows, keep: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The id of each row's path in the index, -1 for a new one; and whether the image there is the same, with the same
    in the columns that are carried along."""
    if not len(stored):
        return np.full(len(rows), -1, np.int64), np.zeros(len(rows), bool)
    known = stored.find(path_array(rows.paths))
    same = known >= 0
    same[same] = stored.column("content_hash")[known[same]] == rows.content_hash[same]
    for name in keep:
        places = np.flatnonzero(same)
        same[places] = stored.kept(name, known[places]) == rows.kept[name][places]
    return known, same
