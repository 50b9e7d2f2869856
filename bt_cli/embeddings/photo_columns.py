"""The columns of an image table that say when, with what and where a picture was taken; each may be null.

`taken` is a timestamp of milliseconds without a zone: the clock's time at the place, which is what people mean by a day
or a month. `taken_offset` has the minutes by which that clock is ahead of UTC, where the file says it. `camera` is make
and model, `latitude` and `longitude` are degrees north and east. Tables of earlier versions have none of these columns.

As arrays: `taken` int64 with `NEVER` for null, `taken_offset` int16 with `UNKNOWN`, `camera` objects with None, the
others float64 with NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.files.photo_facts import PhotoFacts

if TYPE_CHECKING:
    import pyarrow as pa

PHOTO_COLUMNS = ("taken", "taken_offset", "camera", "latitude", "longitude")
NEVER = np.iinfo(np.int64).min
UNKNOWN = np.iinfo(np.int16).min
_BLANKS: dict[str, Any] = {"taken": NEVER, "taken_offset": UNKNOWN, "camera": None}
_DTYPES: dict[str, Any] = {"taken": np.int64, "taken_offset": np.int16, "camera": object}
_MOST = {"latitude": 90.0, "longitude": 180.0}


def photo_fields() -> list[pa.Field]:
    """The columns, in their order."""
    import pyarrow as pa

    types = (pa.timestamp("ms"), pa.int16(), pa.string(), pa.float64(), pa.float64())
    return [pa.field(name, kind) for name, kind in zip(PHOTO_COLUMNS, types, strict=True)]


def blank_column(name: str, rows: int) -> np.ndarray:
    """A column of nulls, as an array."""
    return np.full(rows, _BLANKS.get(name, np.nan), _DTYPES.get(name, np.float64))


def photo_array(name: str, table: Any) -> np.ndarray:
    """A column of a pyarrow table or record batch as an array: of nulls where the table lacks it, and for degrees that
    can't be, as another program may have written them."""
    if name not in table.schema.names:
        return blank_column(name, table.num_rows)
    return column_array(name, table.column(name))


def column_array(name: str, column: Any) -> np.ndarray:
    """A pyarrow column as an array; degrees that can't be as null."""
    if name == "camera":
        codes, names = camera_codes(column)
        return np.array([*names, None], object)[codes]
    kind = next(field.type for field in photo_fields() if field.name == name)
    parts = [
        _numbers(chunk, kind, _DTYPES.get(name, np.float64), _BLANKS.get(name, np.nan)) for chunk in _chunks(column)
    ]
    values = np.concatenate(parts) if parts else blank_column(name, 0)
    if name in _MOST:
        values[~(np.abs(values) <= _MOST[name])] = np.nan
    return values


def camera_codes(column: Any) -> tuple[np.ndarray, list[str]]:
    """(n,) int32, the place of each row's camera among the names that follow, -1 for null. An index has millions of
    pictures and a dozen cameras."""
    import pyarrow as pa

    places: dict[str, int] = {}
    parts = []
    for chunk in _chunks(column):
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(pa.string()).dictionary_encode()
        names = chunk.dictionary.to_pylist()
        found = np.array([*(places.setdefault(name, len(places)) for name in names), -1], np.int32)
        parts.append(found[_numbers(chunk.indices, pa.int32(), np.int32, -1)])
    return np.concatenate(parts) if parts else np.empty(0, np.int32), list(places)


def arrow_columns(arrays: dict[str, np.ndarray]) -> dict[str, pa.Array]:
    """Arrays by name, as columns."""
    import pyarrow as pa

    columns = {}
    for field in photo_fields():
        values = arrays[field.name]
        if field.name == "camera":
            columns[field.name] = pa.array(values.tolist(), field.type)
            continue
        blank = np.isnan(values) if field.name in _MOST else values == _BLANKS[field.name]
        columns[field.name] = pa.array(values, mask=blank).cast(field.type)
    return columns


def facts_arrays(facts: Sequence[PhotoFacts], rows: int) -> dict[str, np.ndarray]:
    """What files say of themselves as arrays by name; of nulls where nobody looked and `facts` is empty."""
    arrays = {name: blank_column(name, rows) for name in PHOTO_COLUMNS}
    for row, fact in enumerate(facts):
        for name, value in zip(PHOTO_COLUMNS, fact, strict=True):
            if value is not None:
                arrays[name][row] = value
    return arrays


def facts_of(arrays: dict[str, np.ndarray], row: int) -> PhotoFacts:
    """The reverse of `facts_arrays`, of one row."""
    found: list[Any] = []
    for name in PHOTO_COLUMNS:
        value = arrays[name][row]
        if isinstance(value, np.generic):
            value = value.item()
        is_blank = value == _BLANKS[name] if name in _BLANKS else value != value
        found.append(None if is_blank else value)
    return PhotoFacts(*found)


def with_photo_columns(table: pa.Table) -> pa.Table:
    """A whole image table with the columns before its embedding, of nulls where it comes from an earlier version."""
    import pyarrow as pa

    for field in photo_fields():
        if field.name not in table.column_names:
            table = table.add_column(table.num_columns - 1, field, pa.nulls(len(table), field.type))
    return table


def without_photo_columns(schema: pa.Schema) -> pa.Schema:
    """The columns as earlier versions wrote them."""
    import pyarrow as pa

    return pa.schema([field for field in schema if field.name not in PHOTO_COLUMNS], schema.metadata)


def _chunks(column: Any) -> list[Any]:
    import pyarrow as pa

    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]


def _numbers(chunk: Any, kind: pa.DataType, dtype: Any, blank: Any) -> np.ndarray:
    """A column of numbers by its buffers: what pyarrow offers for it imports pandas, where that is installed, and a
    search would wait for it."""
    if chunk.type != kind:
        chunk = chunk.cast(kind)
    present, data = chunk.buffers()
    if data is None:
        return np.full(len(chunk), blank, dtype)
    first, last = chunk.offset, chunk.offset + len(chunk)
    values = np.frombuffer(data, dtype, last)[first:].copy()
    if present is not None:
        values[np.unpackbits(np.frombuffer(present, np.uint8), bitorder="little")[first:last] == 0] = blank
    return values
