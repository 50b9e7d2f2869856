"""How the images of an opened index were taken: the columns of its tables that say it, read when somebody asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.store.block_sums import mapped
from bt_cli.store.embedding_table import reading
from bt_cli.store.image_rows import COLUMNS, ImageRows
from bt_cli.store.photo_columns import PHOTO_COLUMNS, facts_of, photo_array, photo_fields
from bt_cli.store.piece import OpenPiece

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

FEW = 128
"""Images about which it is quicker to read what is near them than whole columns."""


class _Part(NamedTuple):
    """A piece and its Parquet file, which stays readable whoever closes or removes it."""

    piece: OpenPiece
    name: str
    content: np.ndarray

    @contextlib.contextmanager
    def opened(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        """Raises BrokenIndex."""
        import pyarrow.parquet

        checked = self.piece.checked_table(self.content)
        with reading(self.name), pyarrow.parquet.ParquetFile(checked, page_checksum_verification=True) as table:
            yield table

    def column(self, field: pa.Field) -> list[pa.Array]:
        """The chunks of a column, of the rows that are there: nulls where the table lacks it."""
        import pyarrow as pa

        with self.opened() as table:
            if field.name not in table.schema_arrow.names:
                return [pa.nulls(len(self.piece), field.type)]
            column = table.read([field.name]).column(0).cast(field.type)
            return list((column.take(self.piece.live_rows()) if len(self.piece.deleted) else column).chunks)

    def rows(self, ids: np.ndarray, names: Sequence[str]) -> pa.Table:
        """A few rows in the order of their `ids`, from their row groups alone; of columns those that it has."""
        import pyarrow as pa

        rows = self.piece.rows_of_ids(ids)
        with self.opened() as table:
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


class PhotoTable:
    """Of one generation. Threads may share it, and it answers also when its index has been closed.

    Args:
        pieces: Of the index, in the order of the ids.
        tables: Their Parquet files, open.
    """

    def __init__(self, pieces: Sequence[OpenPiece], tables: Sequence[BinaryIO]) -> None:
        self._parts = [_Part(piece, file.name, mapped(file)) for piece, file in zip(pieces, tables, strict=True)]
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
                chunks = [chunk for part in self._parts for chunk in part.column(field)]
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
        for part in self._parts:
            first = part.piece.first
            mine = np.flatnonzero((ids >= first) & (ids < first + len(part.piece)))
            if len(mine):
                # Its size is there in every version: rows are counted where nothing else is.
                near = _facts(part.rows(ids[mine], ["size", *PHOTO_COLUMNS]))
                for place, facts in zip(mine.tolist(), near, strict=True):
                    found[place] = facts
        return found

    def row(self, image_id: int) -> ImageRows:
        """All that its table says of one image: rows of which there is one. Raises BrokenIndex."""
        part = next(part for part in self._parts if image_id < part.piece.first + len(part.piece))
        with reading(part.name):
            return ImageRows.from_columns(part.rows(np.array([image_id]), [*COLUMNS, *PHOTO_COLUMNS]))


def _facts(table: pa.Table) -> list[PhotoFacts]:
    arrays = {name: photo_array(name, table) for name in PHOTO_COLUMNS}
    return [facts_of(arrays, row) for row in range(len(table))]
