"""An index as tables of a LanceDB database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bt_cli.errors import Misuse
from bt_cli.export.index_contents import Exported, IndexContents

if TYPE_CHECKING:
    import pyarrow as pa


def to_lancedb(contents: IndexContents, out: str, *, name: str, overwrite: bool) -> Exported:
    """Write the tables NAME and, where there are captions, NAME_captions. The column `vector` is float32; the schema's
    metadata say what made it. A table appears when it is whole.

    Args:
        out: A folder, or what else `lancedb.connect` takes.
        name: Of the table of images.
        overwrite: Replace tables of these names; others of the database stay as they are.

    Raises:
        Misuse: A table is there already, without `overwrite`.
    """
    import lancedb

    database = lancedb.connect(out)
    wanted = {name: contents.images()} | ({f"{name}_captions": contents.texts()} if contents.captions else {})
    there = [table for table in wanted if table in set(_table_names(database))]
    if there and not overwrite:
        raise Misuse(f"{out}: has a table {there[0]} already; give another --name, or --overwrite")
    for table, batches in wanted.items():
        database.create_table(table, _reader(contents, batches), mode="overwrite" if overwrite else "create")
    return Exported(len(contents.folder), contents.captions)


def _table_names(database: Any) -> list[str]:
    names: list[str] = []
    token = None
    while True:
        page = database.list_tables(page_token=token)
        names += page.tables
        token = page.page_token
        if not token:
            return names


def _reader(contents: IndexContents, tables: Iterator[pa.Table]) -> pa.RecordBatchReader:
    """The tables as a stream, the embedding as a float32 column `vector`, which LanceDB searches by itself."""
    import pyarrow as pa

    def lance(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("embedding")
        vectors = table.column("embedding").cast(pa.list_(pa.float32(), contents.dimension))
        return table.set_column(place, "vector", vectors).replace_schema_metadata(contents.about())

    first = lance(next(tables))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for table in tables:
            yield from lance(table).cast(first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())
