"""Embeddings as a NumPy file, with a file of lines beside it that says what each row is.

`x.npy` is an (n, d) array that `numpy.load` opens or maps. `x.rows.jsonl` has a line for each of its rows, in their
order: the columns of the Parquet table (see `embedding_table`) but the embedding, as a JSON object. A path in it is
written as `--json` writes one: a byte that is no UTF-8 is a lone surrogate's escape, as `path_bytes` is not there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.embedding_table import TableWriter, vectors_of
from bt_cli.files.atomic_write import open_whole
from bt_cli.files.photo_facts import PhotoFacts

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".npy"
ROWS = ".rows.jsonl"
NAMES_OF_BYTES = {"path_bytes": "path", "image_path_bytes": "image"}
"""Columns with the bytes of names that are no UTF-8, and the columns that they belong to."""


class NpyWriter:
    """The array in the making, row after row; leaving the `with` block writes its final length.

    Args:
        vectors: The array's file, open for writing, able to seek.
        rows: The file of lines.
        schema: Of the rows, as `embedding_table` has it.
    """

    def __init__(self, vectors: IO[bytes], rows: IO[bytes], schema: pa.Schema) -> None:
        self.vectors, self.rows, self.schema = vectors, rows, schema
        embedding = schema.field("embedding").type
        self.dimension: int = embedding.list_size
        self.dtype = np.dtype(embedding.value_type.to_pandas_dtype()).newbyteorder("<")
        self.count = 0
        self._head = self._write_head()

    def write(self, columns: dict[str, Any]) -> None:
        """Add rows; `columns` as `pyarrow.table` takes them."""
        import pyarrow as pa

        table = pa.table(columns, schema=self.schema)
        self.vectors.write(np.ascontiguousarray(vectors_of(table.column("embedding")), self.dtype).tobytes())
        for record in records(table):
            self.rows.write(json_line(record))
        self.count += len(table)

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            end = self.vectors.tell()
            self.vectors.seek(0)
            # NumPy leaves room in the head for a first axis of any length.
            if self._write_head() != self._head:
                raise ValueError("the head of a NumPy file has changed its length")
            self.vectors.seek(end)

    def _write_head(self) -> int:
        descr = np.lib.format.dtype_to_descr(self.dtype)
        head = {"descr": descr, "fortran_order": False, "shape": (self.count, self.dimension)}
        np.lib.format.write_array_header_1_0(self.vectors, head)
        return self.vectors.tell()


@contextlib.contextmanager
def table_file(out: str | os.PathLike[str], schema: pa.Schema) -> Iterator[TableWriter | NpyWriter]:
    """A table in the making at `out`, as its suffix says: `.npy`, else Parquet. It appears when it is whole.

    Raises:
        Unwritable: It can't be written.
    """
    if Path(out).suffix.lower() != SUFFIX:
        with open_whole(out) as file, TableWriter(file, schema) as table:
            yield table
        return
    with open_whole(rows_file(out)) as rows, open_whole(out) as vectors, NpyWriter(vectors, rows, schema) as array:
        yield array


def rows_file(out: str | os.PathLike[str]) -> Path:
    """Where the lines about the rows of a NumPy file stand: `x.rows.jsonl` for `x.npy`."""
    path = Path(out)
    return path.with_name(path.stem + ROWS)


def records(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table but their embeddings, as JSON has them: paths as the file system functions take them, times
    as ISO 8601, in UTC (`taken` on the clock of its place), other bytes as their hex digits."""
    names = [name for name in table.column_names if name != "embedding" and name not in NAMES_OF_BYTES]
    columns = {name: _json_values(table.column(name)) for name in names}
    for raw, text in NAMES_OF_BYTES.items():
        if raw in table.column_names:
            found = table.column(raw).to_pylist()
            columns[text] = [
                value if name is None else os.fsdecode(name) for value, name in zip(columns[text], found, strict=True)
            ]
    for row in range(len(table)):
        yield {name: columns[name][row] for name in names}


def json_line(record: dict[str, Any]) -> bytes:
    """A JSON object as one line of UTF-8; lone surrogates as their escapes, which JSON shares with Python."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        numbers = column.cast(pa.int64()).to_pylist()
        if column.type.tz is None:
            return [None if value is None else PhotoFacts(value).taken_text for value in numbers]
        return [None if value is None else _iso_time(value) for value in numbers]
    return [_json_value(value) for value in column.to_pylist()]


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _iso_time(nanoseconds: int) -> str:
    """`2026-05-04T12:00:00.123456789Z`: no digit is lost."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
