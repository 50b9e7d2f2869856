"""The rows of an index as its writer needs them: columns as arrays, each read when it is asked for.

A million rows take some 100 MB: paths as one run of bytes, sizes and times as integers. Hashes and image sizes are
read only where something changed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.embedding_table import nanoseconds, paths_of, read_columns, read_embeddings, reading
from bt_cli.embeddings.image_rows import ARRAYS, HASH, ImageRows
from bt_cli.embeddings.kept_columns import blank_kept, kept_array
from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS, photo_array
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.errors import BrokenIndex
from bt_cli.paths.path_lookup import index_array, rows_of_paths
from bt_cli.paths.string_table import StringTable
from bt_cli.store.manifest import Piece
from bt_cli.store.piece import sums_of

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_A_TIME = 1 << 14
DIGESTS_AT_A_TIME = 1 << 16


class StoredPiece:
    """One piece of the images or the captions.

    Args:
        folder: The index folder.
        entry: What the manifest says of it.
        from_table: Read everything from the Parquet table: the other files are damaged, or of the first format.
    """

    def __init__(self, folder: Path, entry: Piece, from_table: bool = False) -> None:
        self.folder = folder
        self.entry = entry
        self.from_table = from_table
        self.deleted = entry.deleted_rows()
        self.live = np.delete(np.arange(entry.rows), self.deleted) if len(self.deleted) else np.arange(entry.rows)

    def __len__(self) -> int:
        return len(self.live)

    @property
    def table(self) -> Path:
        """Its Parquet file."""
        return self.folder / self.entry.table

    def columns(self, names: list[str]) -> pa.Table:
        """Columns of the rows that are there, those that the table has."""
        table = read_columns(self.table, names)
        self._require_rows(len(table))
        return table.take(index_array(self.live)) if len(self.deleted) else table

    def taken(self, names: list[str], rows: np.ndarray) -> pa.Table:
        """Columns, those that the table has, of some rows of the file in their order; no other row group is read."""
        import pyarrow.parquet

        with reading(self.table), pyarrow.parquet.ParquetFile(self.table, page_checksum_verification=True) as file:
            self._require_rows(file.metadata.num_rows)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            ends = np.cumsum(sizes)
            group_of = np.searchsorted(ends, rows, side="right")
            groups = np.unique(group_of)
            held = [name for name in names if name in file.schema_arrow.names]
            table = file.read_row_groups(groups.tolist(), columns=held)
            skipped = (ends - np.cumsum(np.where(np.isin(np.arange(len(ends)), groups), sizes, 0)))[group_of]
            return table.take(index_array(rows - skipped))

    def digests(self) -> Iterator[np.ndarray]:
        """The content hashes of the rows that are there, (m,) S64 each, some thousands at a time."""
        import pyarrow.parquet

        gone = np.zeros(self.entry.rows, bool)
        gone[self.deleted] = True
        first = 0
        with reading(self.table), pyarrow.parquet.ParquetFile(self.table, page_checksum_verification=True) as file:
            self._require_rows(file.metadata.num_rows)
            for batch in file.iter_batches(DIGESTS_AT_A_TIME, columns=["content_hash"]):
                part = digests_of(batch.column(0))
                yield part[~gone[first : first + len(part)]]
                first += len(part)

    def _require_rows(self, rows: int) -> None:
        if rows != self.entry.rows:
            raise BrokenIndex(f"{self.table}: another number of rows than the manifest says")

    def paths(self) -> pa.Array:
        """The paths' bytes, as large_binary."""
        import pyarrow as pa

        if self.from_table:
            table = self.columns(["path", "path_bytes"])
            with reading(self.table):
                return path_array(paths_of(table.column("path").to_pylist(), table.column("path_bytes").to_pylist()))
        text, offsets = StringTable(
            self.folder / self.entry.strings, sums_of(self.folder, self.entry)[self.entry.strings]
        ).whole()
        buffers = [None, pa.py_buffer(np.asarray(offsets)), pa.py_buffer(np.asarray(text))]
        array = pa.Array.from_buffers(pa.large_binary(), self.entry.rows, buffers)
        return array.take(index_array(self.live)) if len(self.deleted) else array

    def copy_vectors(self, target: VectorFileWriter, places: np.ndarray, rows: np.ndarray) -> None:
        """Bring the vectors of `rows` (of the piece, ascending or not) to their `places` in a file in the making."""
        if self.from_table:
            self._copy_from_table(target, places, rows)
            return
        flat = VectorFile(self.folder / self.entry.vectors, sums_of(self.folder, self.entry)[self.entry.vectors])
        for first in range(0, len(rows), ROWS_AT_A_TIME):
            part = rows[first : first + ROWS_AT_A_TIME]
            flat.checked.require_records(flat.start, flat.row_bytes, part)
            target.write(places[first : first + ROWS_AT_A_TIME], flat.vectors[part])

    def _copy_from_table(self, target: VectorFileWriter, places: np.ndarray, rows: np.ndarray) -> None:
        order = np.argsort(rows, kind="stable")
        sources = rows[order]
        first = 0
        for group in read_embeddings(self.table):
            begin, end = np.searchsorted(sources, [first, first + len(group)])
            wanted, chosen = places[order[begin:end]], sources[begin:end] - first
            ascending = np.argsort(wanted)
            target.write(wanted[ascending], group[chosen[ascending]])
            first += len(group)


class StoredRows:
    """All images of an index, in the order of their ids."""

    def __init__(self, pieces: Sequence[StoredPiece] = ()) -> None:
        self.pieces = list(pieces)
        self.first = np.cumsum([0, *(len(piece) for piece in self.pieces)])
        """(pieces + 1,) the id that each begins with."""
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self.first[-1])

    @cached_property
    def _paths(self) -> list[pa.Array]:
        return [piece.paths() for piece in self.pieces]

    @property
    def paths(self) -> pa.Array:
        """(n,) large_binary: the paths' bytes."""
        return joined_paths(self._paths)

    def path(self, number: int) -> str:
        """One path, as the file system functions take it."""
        piece = int(np.searchsorted(self.first, number, side="right")) - 1
        return os.fsdecode(self._paths[piece][number - int(self.first[piece])].as_py())

    def each_path(self) -> Iterator[str]:
        """All paths in the order of the ids, made some thousands at a time."""
        for part in self._paths:
            for first in range(0, len(part), ROWS_AT_A_TIME):
                yield from map(os.fsdecode, part.slice(first, ROWS_AT_A_TIME).to_pylist())

    def find(self, paths: Any) -> np.ndarray:
        """Ids (m,) int64 of paths (a large_binary array), -1 for those that are not there."""
        return rows_of_paths(paths, self._paths)

    def column(self, name: str) -> np.ndarray:
        """(n,) a column by its name, as `ImageRows` has it."""
        if name not in self._columns:
            parts = []
            for piece in self.pieces:
                with reading(piece.table):
                    # The size is there in every version, so that the rows can be counted without the other.
                    parts.append(_column(name, piece.columns(["size", name] if name in PHOTO_COLUMNS else [name])))
            joined = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None
            self._columns[name] = getattr(ImageRows.blank([]), name) if joined is None else joined
        return self._columns[name]

    def values(self, name: str, ids: np.ndarray) -> np.ndarray:
        """(m,) a column's values at some ids; read for these alone, where the whole of it is not there yet."""
        return self._values([name], ids)[name]

    def _values(self, names: Sequence[str], ids: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: self._columns[name][ids] for name in names if name in self._columns}
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        blank = ImageRows.blank([])
        found.update({name: np.empty(len(ids), getattr(blank, name).dtype) for name in missing})
        pieces, rows = self.placed(ids)
        for number, piece in enumerate(self.pieces):
            mine = np.flatnonzero(pieces == number)
            if len(mine):
                with reading(piece.table):
                    table = piece.taken(["size", *(name for name in missing if name != "size")], rows[mine])
                    for name in missing:
                        found[name][mine] = _column(name, table)
        return found

    def digests(self) -> Iterator[np.ndarray]:
        """The content hashes of all rows in the order of the ids, (m,) S64 each, some thousands at a time."""
        if "content_hash" in self._columns:
            yield self._columns["content_hash"]
            return
        for piece in self.pieces:
            yield from piece.digests()

    @cached_property
    def lacks_photo_columns(self) -> np.ndarray:
        """(n,) bool: rows in the table of an earlier version, in which nobody looked for how they were taken."""
        import pyarrow.parquet

        lacking = np.zeros(len(self), bool)
        for number, piece in enumerate(self.pieces):
            with reading(piece.table):
                names = pyarrow.parquet.read_schema(piece.table).names
            lacking[self.first[number] : self.first[number + 1]] = not set(PHOTO_COLUMNS) <= set(names)
        return lacking

    def lacks_kept(self, names: Collection[str]) -> np.ndarray:
        """(n,) bool: rows in a table without one of these columns, so that nobody looked for it."""
        lacking = np.zeros(len(self), bool)
        for number, piece in enumerate(self.pieces):
            lacking[self.first[number] : self.first[number + 1]] = not set(names) <= set(piece.entry.keep)
        return lacking

    def kept(self, name: str, ids: np.ndarray) -> np.ndarray:
        """(m,) objects: a column that was carried along, of some rows; only the tables that these are in are read."""
        found = blank_kept(len(ids))
        numbers = np.searchsorted(self.first, ids, side="right") - 1
        for number, piece in enumerate(self.pieces):
            mine = np.flatnonzero(numbers == number)
            if len(mine) and name in piece.entry.keep:
                with reading(piece.table):
                    column = piece.columns([name]).column(name)
                    found[mine] = kept_array(column.take(index_array(ids[mine] - self.first[number])))
        return found

    def ids_of_content(self, digests: Collection[bytes]) -> dict[bytes, int]:
        """The smallest id of each of these contents (as `content_hash` has them) that some image has."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = [digest for digest in digests if len(digest) == np.dtype(HASH).itemsize]
        width = pa.binary(np.dtype(HASH).itemsize)
        ids: dict[bytes, int] = {}
        first = 0
        for part in self.digests():
            held = pa.Array.from_buffers(width, len(part), [None, pa.py_buffer(np.ascontiguousarray(part))])
            there = np.frombuffer(pc.is_in(held, value_set=pa.array(wanted, width)).buffers()[1], np.uint8)
            for row in np.flatnonzero(np.unpackbits(there, count=len(part), bitorder="little")).tolist():
                ids.setdefault(bytes(part[row]), first + row)
            first += len(part)
        return ids

    def rows(self, ids: np.ndarray) -> ImageRows:
        """Some rows, all their columns."""
        paths = [self.path(number) for number in ids.tolist()] if len(ids) < ROWS_AT_A_TIME else self._taken_paths(ids)
        columns = self._values(ARRAYS, ids)
        columns.update({name: columns[name].astype(np.int32) for name in ("width", "height")})
        names = dict.fromkeys(name for piece in self.pieces for name in piece.entry.keep)
        return ImageRows(paths, **columns, kept={name: self.kept(name, ids) for name in names})

    def _taken_paths(self, ids: np.ndarray) -> list[str]:
        return [os.fsdecode(path) for path in self.paths.take(index_array(ids)).to_pylist()]

    def placed(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which piece, its row) of each id."""
        pieces = np.searchsorted(self.first, ids, side="right") - 1
        rows = np.empty(len(ids), np.int64)
        for number, piece in enumerate(self.pieces):
            mine = pieces == number
            rows[mine] = piece.live[ids[mine] - self.first[number]]
        return pieces, rows


def path_array(paths: Sequence[str]) -> pa.Array:
    """Paths as `StoredRows.paths` has them."""
    import pyarrow as pa

    return pa.array([os.fsencode(path) for path in paths], pa.large_binary())


def joined_paths(parts: Sequence[pa.Array]) -> pa.Array:
    """Arrays of paths, one after another."""
    import pyarrow as pa

    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts or [path_array([])])


def _column(name: str, table: pa.Table) -> np.ndarray:
    """A column of a table as `ImageRows` has it."""
    if name in PHOTO_COLUMNS:
        return photo_array(name, table)
    column = table.column(name)
    return digests_of(column) if name == "content_hash" else nanoseconds(column)


def digests_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) S64 of a column of hex digits, without a value of Python's for each where all are of that length."""
    array = column if hasattr(column, "buffers") else column.combine_chunks()
    if array.null_count or not len(array):
        return np.array(column.to_pylist(), HASH)
    _, offsets, text = array.buffers()
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    if not (np.diff(ends) == np.dtype(HASH).itemsize).all():
        return np.array(column.to_pylist(), HASH)
    return np.frombuffer(text, HASH, len(array), int(ends[0]))
