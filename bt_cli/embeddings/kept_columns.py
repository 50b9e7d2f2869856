"""Columns of an image table that were carried along from the images' sources (`--keep`): texts, each may be null.

Which they are stands in the table's metadata, `bt.keep`, as a JSON list. Tables of one index may have other ones each:
read as one they have those that the index keeps, of nulls where a table lacks one.

As arrays: objects, a text or None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

OWN_COLUMNS = (
    "path", "path_bytes", "size", "mtime", "content_hash", "width", "height", *PHOTO_COLUMNS, "embedding",
)  # fmt: skip
"""Of an image table, whatever is kept beside them."""
KEEP = b"bt.keep"


def kept_fields(names: Sequence[str]) -> list[pa.Field]:
    """The columns, in this order."""
    import pyarrow as pa

    return [pa.field(name, pa.string()) for name in names]


def kept_metadata(names: Sequence[str]) -> dict[str, str | bytes]:
    """What a table says of them; nothing where it has none."""
    return {KEEP.decode(): json.dumps(list(names))} if names else {}


def kept_in(schema: pa.Schema) -> list[str]:
    """The columns that a table says it carries along, those that it has."""
    import pyarrow as pa

    try:
        names = json.loads((schema.metadata or {}).get(KEEP, b"[]"))
    except ValueError:
        return []
    there = set(schema.names) - set(OWN_COLUMNS)
    return [
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str) and name in there and pa.types.is_string(schema.field(name).type)
    ]


def blank_kept(rows: int) -> np.ndarray:
    """A column of nulls."""
    return np.full(rows, None, object)


def kept_array(column: Any) -> np.ndarray:
    """A pyarrow column as an array."""
    values = blank_kept(len(column))
    values[:] = column.to_pylist()
    return values


def with_kept_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A whole image table with these columns before its embedding, and no other ones that it kept."""
    import pyarrow as pa

    had = kept_in(table.schema)
    if had == list(names):
        return table
    found = {name: table.column(name) for name in had}
    table = table.drop_columns(had) if had else table
    for field in kept_fields(names):
        values = found.get(field.name, pa.nulls(len(table), field.type))
        table = table.add_column(table.num_columns - 1, field, values)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != KEEP}
    return table.replace_schema_metadata(metadata | kept_metadata(names))
