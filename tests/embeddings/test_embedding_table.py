"""The Parquet tables as their readers see them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.embeddings import embedding_table
from bt_cli.embeddings.embedding_table import (
    TableWriter,
    image_schema,
    path_columns,
    paths_of,
    read_columns,
    read_embeddings,
    vector_array,
)
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.photo_columns import arrow_columns, facts_arrays
from bt_cli.errors import BrokenIndex
from bt_cli.files.photo_facts import PhotoFacts

IDENTITY = Identity("name", "f" * 64, "crop 8x8", 4, "bfloat16")
FACTS = [PhotoFacts(1_717_423_509_250, 120, "Canon EOS", 48.5, -16.25), PhotoFacts(), PhotoFacts(0)]
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4) / 16


@pytest.fixture(params=["float16", "float32"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Three rows, written in two parts."""
    path = tmp_path / "t.parquet"
    with open(path, "wb") as file, TableWriter(file, image_schema(IDENTITY, request.param)) as writer:
        for part in (slice(0, 1), slice(1, 3)):
            paths = ["a.jpg", "b \u732b.jpg", os.fsdecode(b"c\xff.jpg")][part]
            texts, raw = path_columns(paths)
            n = len(paths)
            writer.write(
                {
                    "path": texts,
                    "path_bytes": raw,
                    "size": [5] * n,
                    "mtime": [6] * n,
                    "content_hash": ["0" * 64] * n,
                    "width": [7] * n,
                    "height": [8] * n,
                    **arrow_columns(facts_arrays(FACTS[part], n)),
                    "embedding": vector_array(VECTORS[part], request.param),
                }
            )
    return path


def test_pandas(table: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(table)
    assert frame.path.tolist() == ["a.jpg", "b \u732b.jpg", "c\\xff.jpg"]
    assert np.array_equal(np.stack(frame.embedding), VECTORS)


def test_polars(table: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(table)
    assert frame["path_bytes"].to_list() == [None, None, b"c\xff.jpg"]
    assert np.array_equal(frame["embedding"].to_numpy(), VECTORS)


def test_duckdb(table: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    name = str(table).replace("'", "''")
    rows = duckdb.sql(f"select path, width * height, list_sum(embedding) from '{name}' order by path").fetchall()
    assert rows == [("a.jpg", 56, 0.375), ("b \u732b.jpg", 56, 1.375), ("c\\xff.jpg", 56, 2.375)]
    facts = duckdb.sql(
        f"select taken, taken_offset, camera, latitude, longitude from '{name}' order by path"
    ).fetchall()
    assert facts == [
        (datetime(2024, 6, 3, 14, 5, 9, 250_000), 120, "Canon EOS", 48.5, -16.25),
        (None, None, None, None, None),
        (datetime(1970, 1, 1), None, None, None, None),
    ]


def test_metadata_name_what_made_it(table: Path) -> None:
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_schema(table).metadata
    wanted = {
        "checkpoint": "name",
        "fingerprint": "f" * 64,
        "preprocessing": "crop 8x8",
        "precision": "bfloat16",
        "dimension": "4",
    }
    assert {key: metadata[f"bt.{key}".encode()].decode() for key in wanted} == wanted
    assert metadata[b"bt.format"] == b"2"


def test_rows_go_into_groups_of_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    monkeypatch.setattr(embedding_table, "ROW_GROUP", 4)
    rows = {name: [0] for name in ("size", "mtime", "width", "height")}
    with open(tmp_path / "t", "wb") as file, TableWriter(file, image_schema(IDENTITY, "float16")) as writer:
        for number in range(10):
            columns = {**rows, "path": [str(number)], "path_bytes": [None], "content_hash": [""]}
            columns |= arrow_columns(facts_arrays([], 1))
            writer.write({**columns, "embedding": vector_array(VECTORS[:1] + number, "float16")})
    file = pyarrow.parquet.ParquetFile(tmp_path / "t")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 2]
    assert np.array_equal(np.concatenate(list(read_embeddings(tmp_path / "t")))[:, 0], np.arange(10))


@given(st.lists(st.binary(min_size=1, max_size=20)))
def test_any_name_survives(names: list[bytes]) -> None:
    paths = [os.fsdecode(name) for name in names]
    texts, raw = path_columns(paths)
    assert all(text.encode("utf-8") for text in texts)
    assert paths_of(texts, raw) == paths


def test_a_flipped_bit_in_a_page_is_noticed(table: Path) -> None:
    whole = table.read_bytes()
    for values in (VECTORS[1].astype(np.float16), VECTORS[1]):
        place = whole.find(values.tobytes())
        if place >= 0:
            break
    assert place > 0
    table.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(BrokenIndex, match=r"t\.parquet: .*CRC.*; .*--rebuild"):
        list(read_embeddings(table))
    with pytest.raises(BrokenIndex, match="CRC"):
        read_columns(table, ["embedding"])


def test_whatever_byte_is_damaged_the_file_is_named(table: Path) -> None:
    whole, rows = table.read_bytes(), ImageRows.read(table)
    messages = []
    for place in range(0, len(whole), 7):
        table.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read = ImageRows.read(table)
            embeddings = np.concatenate(list(read_embeddings(table)))
        except BrokenIndex as error:
            messages.append(str(error))
        else:
            assert len(embeddings) == len(read) == len(rows)
    assert messages
    assert all(message.startswith(str(table)) and "\n" not in message for message in messages)
    table.write_bytes(b"")
    with pytest.raises(BrokenIndex, match=r"t\.parquet: .*--rebuild"):
        ImageRows.read(table)
    table.unlink()
    with pytest.raises(BrokenIndex, match=r"t\.parquet: missing from the index"):
        list(read_embeddings(table))
