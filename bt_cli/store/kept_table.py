"""What was carried along from the sources of an opened index's images: columns of its tables, a few rows at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bt_cli.embeddings.embedding_table import reading
from bt_cli.files.block_sums import mapped
from bt_cli.store.piece import OpenPiece

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

GROUPS = 32
"""Row groups whose columns stay at hand."""


class KeptTable:
    """Of one generation. Threads may share it, and it answers also when its index has been closed.

    Args:
        pieces: Of the index, in the order of the ids.
        tables: Their Parquet files, open.
        names: The columns that the index keeps.
    """

    def __init__(self, pieces: Sequence[OpenPiece], tables: Sequence[BinaryIO], names: Sequence[str]) -> None:
        self.names = list(names)
        self._pieces = list(pieces)
        self._files = [(file.name, mapped(file)) for file in tables] if names else []
        self._metadata: dict[int, Any] = {}
        self._groups: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, ids: Any) -> list[dict[str, str | None]]:
        """The values of images by the columns' names, which all are there. Raises BrokenIndex."""
        ids = np.asarray(ids, np.int64)
        found: list[dict[str, str | None]] = [dict.fromkeys(self.names) for _ in ids]
        for number, piece in enumerate(self._pieces if self.names else ()):
            mine = np.flatnonzero((ids >= piece.first) & (ids < piece.first + len(piece)))
            names = [name for name in self.names if name in piece.entry.keep]
            if len(mine) and names:
                with reading(self._files[number][0]), self._lock:
                    self._fill(found, number, mine, piece.rows_of_ids(ids[mine]), names)
        return found

    def _fill(
        self, found: list[dict[str, str | None]], number: int, places: np.ndarray, rows: np.ndarray, names: list[str]
    ) -> None:
        metadata = self._metadata_of(number)
        ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])
        groups = np.searchsorted(ends, rows, side="right")
        for group in sorted(set(groups.tolist())):
            here = np.flatnonzero(groups == group)
            table = self._group(number, group, names)
            within = rows[here] - (ends[group] - len(table))
            for name in names:
                column = table.column(name)
                for place, row in zip(places[here].tolist(), within.tolist(), strict=True):
                    found[place][name] = column[row].as_py()

    def _metadata_of(self, number: int) -> Any:
        import pyarrow.parquet

        if number not in self._metadata:
            checked = self._pieces[number].checked_table(self._files[number][1])
            self._metadata[number] = pyarrow.parquet.read_metadata(checked)
        return self._metadata[number]

    def _group(self, number: int, group: int, names: list[str]) -> pa.Table:
        """Some columns of a row group. It is read without threads, as `photo_table` does."""
        import pyarrow.parquet

        key = number, group
        if key not in self._groups:
            checked = self._pieces[number].checked_table(self._files[number][1])
            metadata = self._metadata_of(number)
            with pyarrow.parquet.ParquetFile(checked, metadata=metadata, page_checksum_verification=True) as table:
                self._groups[key] = table.read_row_group(group, names, use_threads=False)
            while len(self._groups) > GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]
