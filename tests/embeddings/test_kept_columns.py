"""Kept columns of tables that stand side by side, read as one."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from bt_cli.embeddings.embedding_table import image_schema
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.kept_columns import KEEP, OWN_COLUMNS, kept_in, with_kept_columns

MADE = Identity("fake", "f" * 64, "crop 8x8", 4, "float32")


def table(*keep: str, rows: int = 2) -> pa.Table:
    made = ImageRows.blank([f"{number}.png" for number in range(rows)])
    made.keep(keep)
    for name in keep:
        made.kept[name][:] = [f"{name} {number}" for number in range(rows)]
    schema = image_schema(MADE, "float32", keep=keep)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * rows, np.float32)), type=schema[-1].type)
    return pa.table({**made.columns(0, rows), "embedding": vectors}, schema=schema)


def test_a_table_without_them_is_as_it_was() -> None:
    schema = image_schema(MADE, "float16")
    assert schema.names == list(OWN_COLUMNS)
    assert KEEP not in schema.metadata


def test_a_table_says_which_it_keeps() -> None:
    made = table("url", "key")
    assert kept_in(made.schema) == ["url", "key"]
    assert made.column_names == [*OWN_COLUMNS[:-1], "url", "key", "embedding"]
    rows = ImageRows.from_columns(made)
    assert {name: values.tolist() for name, values in rows.kept.items()} == {
        "url": ["url 0", "url 1"],
        "key": ["key 0", "key 1"],
    }


@pytest.mark.parametrize("said", [b"no JSON", b"5", b'{"url": 1}', b'["path", "size", "lost", 5, "height"]'])
def test_what_no_table_of_ours_says_is_not_believed(said: bytes) -> None:
    made = table("url")
    schema = made.schema.with_metadata({**made.schema.metadata, KEEP: said})
    assert kept_in(schema) == []


def test_tables_with_other_ones_are_read_as_one() -> None:
    parts = [with_kept_columns(each, ["key", "url"]) for each in (table("url"), table(), table("key", "url", "more"))]
    assert len({tuple(part.column_names) for part in parts}) == 1
    assert [json.loads(part.schema.metadata[KEEP]) for part in parts] == [["key", "url"]] * 3
    whole = pa.concat_tables(parts)
    assert whole["key"].to_pylist() == [None] * 4 + ["key 0", "key 1"]
    assert whole["url"].to_pylist() == ["url 0", "url 1", None, None, "url 0", "url 1"]
    assert kept_in(with_kept_columns(table("url"), []).schema) == []


def test_rows_are_joined_taken_and_copied_with_them() -> None:
    one, other = ImageRows.from_columns(table("url")), ImageRows.from_columns(table("key", rows=3))
    joined = ImageRows.joined([one, other])
    assert joined.kept["url"].tolist() == ["url 0", "url 1", None, None, None]
    assert joined.take(np.array([4, 0])).kept["key"].tolist() == ["key 2", None]
    one, other = ImageRows.joined([one]), ImageRows.joined([other])  # copies, which can be written to
    one.copy_rows([1], one, [0])
    assert one.kept["url"].tolist() == ["url 0", "url 0"]
    one.copy_rows([0], other, [2])  # which keeps no such column
    assert one.kept["url"].tolist() == ["url 0", "url 0"]
