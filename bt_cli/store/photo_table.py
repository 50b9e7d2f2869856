"""How the images of an opened index were taken: the columns of its tables that say it, read when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.store.block_sums import CheckedFile
from bt_cli.store.embedding_table import reading
from bt_cli.store.photo_columns import PHOTO_COLUMNS, facts_of, photo_array, photo_fields
from bt_cli.store.piece import OpenPiece

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

FEW = 128
"""Images about which it is quicker to read what is near them than whole columns."""


class PhotoTable:
    """Of one generation. Threads may share it.

    Args:
        pieces: Of the index, in the order of the ids.
        tables: Their Parquet files, open; nobody else may read them at the same time.
    """

    def __init__(self, pieces: Sequence[OpenPiece], tables: Sequence[BinaryIO]) -> None:
        self._parts = list(zip(pieces, tables, strict=True))
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._lock = threading.Lock()
        self._asked = False

    def column(self, name: str) -> pa.ChunkedArray:
        """One of the `PHOTO_COLUMNS` in the order of the ids, read once and kept: nulls for the rows of a table that
        lacks it. Raises BrokenIndex."""
        import pyarrow as pa

        with self._lock:
            if name not in self._columns:
                field = next(field for field in photo_fields() if field.name == name)
                chunks = [chunk for piece, file in self._parts for chunk in _chunks(piece, file, field)]
                self._columns[name] = pa.chunked_array(chunks, field.type)
            return self._columns[name]

    def facts(self, ids: Any) -> list[PhotoFacts]:
        """How images were taken. The first call reads what is near these rows, later ones whole columns, which stay.
        Raises BrokenIndex."""
        ids = np.asarray(ids, np.int64)
        if self._asked or len(ids) > FEW:
            import pyarrow as pa

            return _facts(pa.table({name: self.column(name).take(ids) for name in PHOTO_COLUMNS}))
        self._asked = True
        found = [PhotoFacts()] * len(ids)
        for piece, file in self._parts:
            mine = np.flatnonzero((ids >= piece.first) & (ids < piece.first + len(piece)))
            if len(mine):
                with self._lock, reading(file.name):
                    # Its size is there in every version: rows are counted where nothing else is.
                    rows = piece.rows_of_ids(ids[mine])
                    near = _facts(rows_nearby(piece.checked_table(file), rows, ["size", *PHOTO_COLUMNS]))
                for place, facts in zip(mine.tolist(), near, strict=True):
                    found[place] = facts
        return found


def _chunks(piece: OpenPiece, file: BinaryIO, field: pa.Field) -> list[pa.Array]:
    import pyarrow as pa
    import pyarrow.parquet

    checked = piece.checked_table(file)
    with reading(file.name), pyarrow.parquet.ParquetFile(checked, page_checksum_verification=True) as table:
        if field.name not in table.schema_arrow.names:
            return [pa.nulls(len(piece), field.type)]
        column = table.read([field.name]).column(0).cast(field.type)
        return list((column.take(piece.live_rows()) if len(piece.deleted) else column).chunks)


def rows_nearby(file: CheckedFile, rows: np.ndarray, names: Sequence[str]) -> pa.Table:
    """A few rows of a table, in the order of `rows`, from their row groups alone; of columns those that it has."""
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True) as table:
        names = [name for name in names if name in table.schema_arrow.names]
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, rows, side="right")
        parts, places = [], []
        for group in np.unique(groups).tolist():
            here = np.flatnonzero(groups == group)
            parts.append(table.read_row_group(group, names).take(rows[here] - (ends[group] - sizes[group])))
            places.append(here)
        return pa.concat_tables(parts).take(np.argsort(np.concatenate(places)))


def _facts(table: pa.Table) -> list[PhotoFacts]:
    arrays = {name: photo_array(name, table) for name in PHOTO_COLUMNS}
    return [facts_of(arrays, row) for row in range(len(table))]
