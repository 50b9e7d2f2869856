"""Some rows of an index with several pieces and deleted rows: the same whether columns are read whole or in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder

from bt_cli.embeddings.image_rows import ARRAYS
from bt_cli.indexing.build import build_index
from bt_cli.store import index_writer, stored_rows
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.stored_rows import StoredRows


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pieces; rows of the first are deleted, and two images have the same content."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 2)
    monkeypatch.setattr("bt_cli.store.piece_writer.ROW_GROUP", 8)
    monkeypatch.setattr("bt_cli.embeddings.embedding_table.ROW_GROUP", 8)
    (tmp_path / "images").mkdir()
    for number in range(60):
        (tmp_path / f"images/{number:02d}.jpg").write_bytes(b"%d" % (number if number != 41 else 40) * (number + 1))
    (tmp_path / "images/41.jpg").write_bytes((tmp_path / "images/40.jpg").read_bytes())
    build_index("index", ["images"], FakeEncoder())
    for number in (0, 17, 18, 30):
        (tmp_path / f"images/{number:02d}.jpg").unlink()
    for number in range(60, 66):
        (tmp_path / f"images/{number:02d}.jpg").write_bytes(b"%d" % number * (number + 1))
    build_index("index", [], FakeEncoder())
    return tmp_path / "index"


def opened(index: Path) -> StoredRows:
    with IndexWriter(index, FakeEncoder().identity) as writer:
        return writer.stored


def test_values_read_in_part_are_those_of_whole_columns(index: Path) -> None:
    stored, whole = opened(index), opened(index)
    assert len(stored.pieces) == 2
    assert len(stored.pieces[0].deleted) == 4
    ids = np.array([61, 3, 0, 55, 56, 17, 17, 30])
    for name in ARRAYS:
        np.testing.assert_array_equal(stored.values(name, ids), whole.column(name)[ids])
    rows = stored.rows(ids)
    assert rows.paths == [whole.path(number) for number in ids.tolist()]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(rows, name), whole.column(name)[ids])
    assert stored._columns == {}


def test_few_rows_read_few_row_groups(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    stored = opened(index)
    read: list[list[int]] = []
    original = pyarrow.parquet.ParquetFile.read_row_groups

    def noted(file: object, groups: list[int], **options: object) -> object:
        read.append(groups)
        return original(file, groups, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_groups", noted)
    stored.values("size", np.array([0, 20]))
    assert read == [[0, 2]]


@pytest.mark.parametrize("whole", [False, True])
def test_the_smallest_id_of_a_content(index: Path, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "DIGESTS_AT_A_TIME", 7)
    stored = opened(index)
    held = opened(index).column("content_hash")
    if whole:
        stored.column("content_hash")
    twins = [number for number in range(len(held)) if (held == held[number]).sum() == 2]
    assert len(twins) == 2
    asked = {bytes(held[twins[1]]), bytes(held[0]), bytes(held[-1]), b"0" * 64, b"short"}
    expected = {bytes(held[twins[0]]): twins[0], bytes(held[0]): 0, bytes(held[-1]): len(held) - 1}
    assert stored.ids_of_content(asked) == expected
