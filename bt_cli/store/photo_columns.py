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
    import pyarrow as pa

    if name == "camera":
        return _texts(column)
    if name == "taken":
        column = column.cast(pa.timestamp("ms")).cast(pa.int64())
    values = column.fill_null(_BLANKS.get(name, np.nan)).to_numpy(**_copying(column))
    values = np.array(values, _DTYPES.get(name, np.float64))
    if name in _MOST:
        values[~(np.abs(values) <= _MOST[name])] = np.nan
    return values


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


def _texts(column: Any) -> np.ndarray:
    """Equal texts share one object: an index has millions of pictures and a dozen cameras."""
    import pyarrow as pa

    column = column.cast(pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = column.dictionary_encode()
    names = np.array([*coded.dictionary.to_pylist(), None], object)
    return names[coded.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)]


def _copying(column: Any) -> dict[str, bool]:
    import pyarrow as pa

    return {} if isinstance(column, pa.ChunkedArray) else {"zero_copy_only": False}
