"""How the images of an opened index were taken: the columns of its tables that say it, read when somebody asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from bt_cli.embeddings.embedding_table import reading
from bt_cli.embeddings.image_rows import COLUMNS, ImageRows
from bt_cli.embeddings.photo_columns import (
    PHOTO_COLUMNS,
    blank_column,
    camera_codes,
    column_array,
    facts_of,
    photo_array,
)
from bt_cli.files.block_sums import mapped
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.store.piece import OpenPiece

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

FEW = 128
"""Images about which it is quicker to read what is near them than whole columns."""


class _Part(NamedTuple):
    """A piece and its Parquet file, which stays readable whoever closes or removes it.

    It is read without threads: a command that ends while pyarrow's pool of them is still starting is aborted by it.
    """

    piece: OpenPiece
    name: str
    content: np.ndarray

    @contextlib.contextmanager
    def opened(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        """Raises BrokenIndex."""
        import pyarrow.parquet

        checked = self.piece.checked_table(self.content)
        with reading(self.name):
            metadata = pyarrow.parquet.read_metadata(checked)
            with pyarrow.parquet.ParquetFile(
                checked,
                metadata=metadata,
                read_dictionary=[name for name in ("camera",) if name in metadata.schema.to_arrow_schema().names],
                page_checksum_verification=True,
            ) as table:
                yield table

    def live(self, values: np.ndarray) -> np.ndarray:
        """Of values (one a row) those of the rows that are there."""
        return values[self.piece.live_rows()] if len(self.piece.deleted) else values

    def column(self, name: str) -> pa.ChunkedArray | None:
        """A column of all its rows, None where the table lacks it."""
        with self.opened() as table:
            return table.read([name], use_threads=False).column(0) if name in table.schema_arrow.names else None

    def rows(self, ids: np.ndarray, names: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table, np.ndarray]]:
        """A few rows from their row groups alone: (places among `ids`, such a group, rows of it); of columns those that
        the table has."""
        rows = self.piece.rows_of_ids(ids)
        with self.opened() as table:
            names = [name for name in names if name in table.schema_arrow.names]
            sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            for group in sorted(set(groups.tolist())):
                here = np.flatnonzero(groups == group)
                yield (
                    here,
                    table.read_row_group(group, names, use_threads=False),
                    rows[here] - (ends[group] - sizes[group]),
                )


class PhotoTable:
    """Of one generation. Threads may share it, and it answers also when its index has been closed.

    Args:
        pieces: Of the index, in the order of the ids.
        tables: Their Parquet files, open.
    """

    def __init__(self, pieces: Sequence[OpenPiece], tables: Sequence[BinaryIO]) -> None:
        self._parts = [_Part(piece, file.name, mapped(file)) for piece, file in zip(pieces, tables, strict=True)]
        self._columns: dict[str, np.ndarray] = {}
        self._cameras: tuple[np.ndarray, list[str]] | None = None
        self._lock = threading.Lock()
        self._asked = False

    def column(self, name: str) -> np.ndarray:
        """One of the `PHOTO_COLUMNS` but `camera` in the order of the ids, as `photo_columns` has it; read once and
        kept. Raises BrokenIndex."""
        with self._lock:
            if name not in self._columns:
                parts = [blank_column(name, 0)]
                for part in self._parts:
                    with reading(part.name):
                        column = part.column(name)
                        values = (
                            blank_column(name, part.piece.entry.rows) if column is None else column_array(name, column)
                        )
                    parts.append(part.live(values))
                self._columns[name] = np.concatenate(parts)
            return self._columns[name]

    def cameras(self) -> tuple[np.ndarray, list[str]]:
        """(n,) int32 in the order of the ids, the place of each image's camera among the names that follow, -1 where
        it has none; read once and kept. Raises BrokenIndex."""
        with self._lock:
            if self._cameras is None:
                parts = []
                for part in self._parts:
                    with reading(part.name):
                        column = part.column("camera")
                        nothing = np.full(part.piece.entry.rows, -1, np.int32), list[str]()
                        codes, names = nothing if column is None else camera_codes(column)
                    parts.append((part.live(codes), names))
                self._cameras = joined_cameras(parts)
            return self._cameras

    def facts(self, ids: Any) -> list[PhotoFacts]:
        """How images were taken. The first call reads what is near these rows, later ones whole columns, which stay.
        Raises BrokenIndex."""
        ids = np.asarray(ids, np.int64)
        if self._asked or len(ids) > FEW:
            return self._facts_of_columns(ids)
        self._asked = True
        found = [PhotoFacts()] * len(ids)
        for part in self._parts:
            first = part.piece.first
            mine = np.flatnonzero((ids >= first) & (ids < first + len(part.piece)))
            # Its size is there in every version: rows are counted where nothing else is.
            for here, table, rows in part.rows(ids[mine], ["size", *PHOTO_COLUMNS]) if len(mine) else ():
                arrays = {name: photo_array(name, table) for name in PHOTO_COLUMNS}
                for place, row in zip(mine[here].tolist(), rows.tolist(), strict=True):
                    found[place] = facts_of(arrays, row)
        return found

    def row(self, image_id: int) -> ImageRows:
        """All that its table says of one image: rows of which there is one. Raises BrokenIndex."""
        part = next(part for part in self._parts if image_id < part.piece.first + len(part.piece))
        with reading(part.name):
            (found,) = part.rows(np.array([image_id]), [*COLUMNS, *PHOTO_COLUMNS])
            return ImageRows.from_columns(found[1].slice(int(found[2][0]), 1))

    def _facts_of_columns(self, ids: np.ndarray) -> list[PhotoFacts]:
        codes, names = self.cameras()
        arrays = {name: self.column(name)[ids] for name in PHOTO_COLUMNS if name != "camera"}
        arrays["camera"] = np.array([*names, None], object)[codes[ids]]
        return [facts_of(arrays, row) for row in range(len(ids))]


def joined_cameras(parts: Sequence[tuple[np.ndarray, list[str]]]) -> tuple[np.ndarray, list[str]]:
    """Cameras of several parts as those of one."""
    places: dict[str, int] = {}
    codes = [np.empty(0, np.int32)]
    for own, names in parts:
        found = np.array([*(places.setdefault(name, len(places)) for name in names), -1], np.int32)
        codes.append(found[own])
    return np.concatenate(codes), list(places)
