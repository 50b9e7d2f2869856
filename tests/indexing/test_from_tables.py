"""An index from tables: the same as one of the folders, and every table that does not fit refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder

from bt_cli.captions.caption import Caption
from bt_cli.errors import BtError, EmptyFolder, IndexMismatch, NotFound, UnreadableTable
from bt_cli.indexing.build import build_index
from bt_cli.indexing.from_tables import index_tables
from bt_cli.indexing.table import encode_caption_table, encode_image_table
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest
from bt_cli.store.table_part import TablePart


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for shard in "abc":
        (tmp_path / shard).mkdir()
        for number in range(7):
            (tmp_path / shard / f"{number}.jpg").write_bytes(f"{shard}{number}".encode() * (number + 1))
    return tmp_path


def encode(shard: str, encoder: FakeEncoder | None = None, dtype: str = "float16") -> str:
    out = f"parts/{shard}.parquet"
    encode_image_table([shard], out, encoder or FakeEncoder(), dtype=dtype)
    return out


def table(index: str) -> Any:
    with IndexFolder.open(index) as folder:
        return folder.table()


def counts(summary: Any) -> tuple[int, int, int]:
    return summary.added, summary.updated, summary.unchanged


def test_tables_make_the_index_that_their_folders_make(home: Path) -> None:
    for shard in "cab":
        encode(shard)
    build_index("whole", ["a", "b", "c"], FakeEncoder())
    assert counts(index_tables("merged", ["parts"])) == (21, 0, 0)
    assert table("merged").equals(table("whole"), check_metadata=True)
    with IndexFolder.open("whole") as whole, IndexFolder.open("merged") as merged:
        queries = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
        for one, other in zip(whole.search(queries, 9), merged.search(queries, 9), strict=True):
            np.testing.assert_array_equal(one, other)


def test_further_tables_add_and_the_same_ones_change_nothing(home: Path) -> None:
    first = encode("b")
    assert counts(index_tables("index", [first])) == (7, 0, 0)
    encode("a")
    encode("c")
    assert counts(index_tables("index", ["parts"])) == (14, 0, 7)
    generation = Manifest.read("index").generation
    assert counts(index_tables("index", ["parts"])) == (0, 0, 21)
    assert Manifest.read("index").generation == generation
    (home / "b/3.jpg").write_bytes(b"another")
    encode("b")
    assert counts(index_tables("index", [first])) == (0, 1, 20)
    build_index("whole", ["a", "b", "c"], FakeEncoder())
    assert table("index").equals(table("whole"), check_metadata=True)


def test_the_index_takes_folders_and_an_update_without_any_keeps_its_rows(home: Path) -> None:
    index_tables("index", [encode("a")])
    assert counts(build_index("index", [], FakeEncoder())) == (0, 0, 7)
    encoder = FakeEncoder()
    assert counts(build_index("index", ["b"], encoder)) == (7, 0, 7)
    assert len(encoder.encoded) == 7
    os.unlink("b/0.jpg")
    assert build_index("index", [], FakeEncoder()).removed == 1
    assert len(table("index")) == 13


def test_the_last_row_of_a_path_is_taken_and_said(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode("a")
    (home / "a/0.jpg").write_bytes(b"later")
    encode_image_table(["a/0.jpg"], "parts/z.parquet", FakeEncoder())
    assert index_tables("index", ["parts"]).added == 7
    assert "1 paths stand in several tables" in caplog.text
    build_index("whole", ["a"], FakeEncoder())
    assert table("index").equals(table("whole"), check_metadata=True)


def test_tables_that_the_index_has_are_compared_without_making_their_rows(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode("a")
    encode("b")
    encode_image_table(["a/0.jpg"], "parts/z.parquet", FakeEncoder())
    index_tables("index", ["parts"])
    monkeypatch.setattr(TablePart, "read_rows", lambda part, home: pytest.fail("rows were made"))
    caplog.clear()
    assert counts(index_tables("index", ["parts"])) == (0, 0, 14)
    assert "1 paths stand in several tables" in caplog.text


def test_only_the_last_row_of_a_known_path_counts(home: Path) -> None:
    """An earlier table's other image of the same path changes nothing, a later one's does."""
    encode("a")
    (home / "a/0.jpg").write_bytes(b"other")
    encode_image_table(["a/0.jpg"], "other.parquet", FakeEncoder())
    index_tables("index", ["parts"])
    assert counts(index_tables("index", ["other.parquet", "parts"])) == (0, 0, 7)
    assert counts(index_tables("index", ["parts", "other.parquet"])) == (0, 1, 6)
    build_index("whole", ["a"], FakeEncoder())
    assert table("index").equals(table("whole"), check_metadata=True)


def test_new_paths_among_known_ones_whose_names_are_no_utf8(home: Path) -> None:
    encode("a")
    index_tables("index", ["parts"])
    (home / "a/0\udcff.jpg").write_bytes(b"no utf-8")
    encode("a")
    assert counts(index_tables("index", ["parts"])) == (1, 0, 7)
    assert counts(index_tables("index", ["parts"])) == (0, 0, 8)


def test_paths_of_tables_that_were_written_elsewhere_are_made_absolute(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "a")
    encode_image_table(["."], "../part.parquet", FakeEncoder())
    (home / "deep").mkdir()
    monkeypatch.chdir(home)
    index_tables("deep/.bt", ["part.parquet"])
    index_tables(".bt", ["part.parquet"])
    assert table("deep/.bt").column("path").to_pylist()[0] == f"{home}/a/0.jpg"
    assert table(".bt").column("path").to_pylist()[0] == "a/0.jpg"


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: encode("b", FakeEncoder(fingerprint="e" * 64)), IndexMismatch, "checkpoint fake (eeeeeeeeeeee)"),
        (lambda: encode("b", dtype="float32"), IndexMismatch, "stored precision float32"),
        (lambda: Path("parts/b.parquet").write_bytes(b"PAR1garbage"), UnreadableTable, "b.parquet: no table"),
        (lambda: Path("parts/b.parquet").write_bytes(b""), UnreadableTable, "b.parquet: no table"),
        (
            lambda: pyarrow.parquet.write_table(pa.table({"path": ["x"]}), "parts/b.parquet"),
            UnreadableTable,
            "it lacks path_bytes",
        ),
        (
            lambda: encode_caption_table([Caption("a cat")], "parts/b.parquet", FakeEncoder()),
            UnreadableTable,
            "a table of captions",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_name(home: Path, make: Any, error: type[BtError], says: str) -> None:
    encode("a")
    make()
    with pytest.raises(error, match="b.parquet") as refused:
        index_tables("index", ["parts"])
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_page_is_refused_and_leaves_the_index_as_it_was(home: Path) -> None:
    index_tables("index", [encode("a")])
    path = Path(encode("b"))
    content = bytearray(path.read_bytes())
    for place in range(8, len(content) - 3000, 97):
        content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableTable, match="b.parquet"):
        index_tables("index", ["parts"])
    assert len(table("index")) == 7


def test_numbers_that_are_none_are_refused(home: Path) -> None:
    path = encode("a")
    read = pyarrow.parquet.read_table(path)
    vectors = np.full((len(read), 16), np.nan, np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=read.schema.field("embedding").type)
    read = read.set_column(read.schema.get_field_index("embedding"), read.schema.field("embedding"), column)
    pyarrow.parquet.write_table(read, path)
    with pytest.raises(UnreadableTable, match=r"a\.parquet: holds embeddings that are no numbers"):
        index_tables("index", ["parts"])
    assert not (home / "index").exists()


def test_what_is_not_there_is_named(home: Path) -> None:
    (home / "empty").mkdir()
    with pytest.raises(NotFound, match="nowhere"):
        index_tables("index", ["nowhere"])
    with pytest.raises(EmptyFolder, match="empty"):
        index_tables("index", ["empty"])
    assert not (home / "index").exists()
