"""Date, camera and place in an index: taken up with the pixels, carried along by every update, and read from the files'
heads alone where an index of an earlier version lacks them."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder
from photographs import photograph

from bt_cli.embeddings import embedding_table
from bt_cli.embeddings.photo_columns import photo_fields
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.indexing.build import build_index
from bt_cli.indexing.encoder import EncodedBatch
from bt_cli.indexing.from_tables import index_tables
from bt_cli.indexing.table import encode_image_table
from bt_cli.preprocessing.image_file import read_photo_facts
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

COLUMNS = ["taken", "taken_offset", "camera", "latitude", "longitude"]
A = ("2024-06-03T14:05:09", 120, "Acme A1", 48.25, 16.5)
B = ("2024-06-04T00:00:00", None, "Acme B2", None, None)
NOTHING = (None,) * 5


class PhotoEncoder(FakeEncoder):
    """Looks at the shot, as the real one does."""

    def encode_files(
        self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
    ) -> Generator[EncodedBatch, None, None]:
        for batch in super().encode_files(paths, captions):
            batch.facts = [read_photo_facts(paths[number]) for number in batch.numbers]
            yield batch


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photographs, the last of which says nothing."""
    monkeypatch.chdir(tmp_path)
    photograph(
        tmp_path / "photos/a.jpg", taken="2024:06:03 14:05:09", offset="+02:00", make="Acme", model="A1", place=A[3:]
    )
    photograph(tmp_path / "photos/b.jpg", colour=(0, 0, 9), taken="2024:06:04 00:00:00", make="Acme", model="B2")
    photograph(tmp_path / "photos/c.jpg", colour=(9, 0, 9))
    return tmp_path


def old_index(monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """The index that an earlier version would have made."""
    with monkeypatch.context() as earlier:
        earlier.setattr(embedding_table, "photo_fields", list)
        build_index(".bt", ["photos"], FakeEncoder(), **options)  # type: ignore[arg-type]
    with IndexFolder.open(".bt") as folder:
        assert not set(COLUMNS) & set(
            pyarrow.parquet.read_schema(folder.folder / folder.manifest.pieces[0].table).names
        )


def facts(index: str = ".bt") -> dict[str, tuple]:
    with IndexFolder.open(index) as folder:
        rows = folder.table().to_pylist()
    return {
        row["path"]: (row["taken"] and row["taken"].isoformat(), *(row[name] for name in COLUMNS[1:])) for row in rows
    }


def test_an_index_has_them_and_an_update_keeps_them(home: Path) -> None:
    build_index(".bt", ["photos"], PhotoEncoder())
    wanted = {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}
    assert facts() == wanted
    table = pyarrow.parquet.read_table(".bt/images.parquet")
    assert [field for field in table.schema if field.name in COLUMNS] == photo_fields()
    os.rename("photos/a.jpg", "photos/moved.jpg")
    os.utime("photos/b.jpg", (1, 1))
    encoder = PhotoEncoder()
    assert build_index(".bt", [], encoder).encoded == 0
    assert facts() == {"photos/moved.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}
    photograph(home / "photos/b.jpg", colour=(1, 2, 3), taken="2020:01:01 00:00:00")
    assert build_index(".bt", [], encoder, compact=True).encoded == 1
    assert facts()["photos/b.jpg"] == ("2020-01-01T00:00:00", None, None, None, None)
    assert facts()["photos/moved.jpg"] == A


def test_members_of_tar_files_and_rows_of_tables(home: Path) -> None:
    with tarfile.open("s.tar", "w") as shard:
        shard.add("photos/a.jpg", "0001.jpg")
        shard.add("photos/c.jpg", "0002.jpg")
    pictures = pa.table({"image": [Path("photos/b.jpg").read_bytes()]})
    pyarrow.parquet.write_table(pictures, "p.parquet")
    build_index(".bt", ["s.tar", "p.parquet"], PhotoEncoder())
    assert facts() == {"p.parquet/000000000": B, "s.tar/0001.jpg": A, "s.tar/0002.jpg": NOTHING}


def test_a_stopped_run_keeps_them_in_its_journal(home: Path) -> None:
    class Stops(PhotoEncoder):
        def encode_files(self, *arguments: object) -> Generator[EncodedBatch, None, None]:
            yield next(super().encode_files(*arguments))  # type: ignore[arg-type]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(".bt", ["photos"], Stops(batch_size=2))
    encoder = PhotoEncoder()
    build_index(".bt", ["photos"], encoder)
    assert len(encoder.encoded) == 1
    assert facts() == {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}


def test_what_an_earlier_version_encoded_before_it_was_stopped_is_not_encoded_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(FakeEncoder):
        def encode_files(self, *arguments: object) -> Generator[EncodedBatch, None, None]:
            yield next(super().encode_files(*arguments))  # type: ignore[arg-type]
            raise KeyboardInterrupt

    with monkeypatch.context() as earlier:
        earlier.setattr(embedding_table, "photo_fields", list)
        with pytest.raises(KeyboardInterrupt):
            build_index(".bt", ["photos"], Stops(batch_size=2))
    (segment,) = Path(".bt/journal/images").iterdir()
    with open(segment, "rb") as file:
        assert "taken" not in pa.ipc.open_stream(file).schema.names
    encoder = PhotoEncoder()
    build_index(".bt", ["photos"], encoder)
    assert [Path(path).name for path in encoder.encoded] == ["c.jpg"]
    assert facts() == dict.fromkeys(("photos/a.jpg", "photos/b.jpg", "photos/c.jpg"), NOTHING)
    assert build_index(".bt", [], encoder, verify=True).encoded == 0
    assert facts() == {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}


def test_an_index_of_an_earlier_version_is_filled_in_by_the_next_update_without_encoding(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open("photos/s.tar", "w") as shard:
        shard.add("photos/a.jpg", "0001.jpg")
    old_index(monkeypatch)
    assert set(facts().values()) == {NOTHING}
    with IndexFolder.open(".bt") as folder:
        before = folder.table()
    encoder = FakeEncoder()
    summary = build_index(".bt", [], encoder)
    assert (summary.encoded, summary.updated, summary.unchanged, encoder.encoded) == (0, 0, 4, [])
    assert caplog.messages == ["date, camera and place read from the heads of 4 images"]
    assert facts() == {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING, "photos/s.tar/0001.jpg": A}
    with IndexFolder.open(".bt") as folder:
        assert folder.table().drop_columns(COLUMNS).equals(before.drop_columns(COLUMNS))
    manifest = Manifest.read(".bt")
    build_index(".bt", [], encoder)
    assert Manifest.read(".bt") == manifest


def test_a_moved_picture_of_such_an_index_has_its_head_read_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_index(monkeypatch)
    os.rename("photos/a.jpg", "photos/z.jpg")
    encoder = FakeEncoder()
    build_index(".bt", [], encoder)
    assert encoder.encoded == []
    assert facts() == {"photos/b.jpg": B, "photos/c.jpg": NOTHING, "photos/z.jpg": A}


def test_rows_of_a_folder_that_is_away_are_filled_in_when_it_is_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        photograph(home / f"photos/disk/{number}.jpg", colour=(number, 0, 0), model=f"X{number}")
    old_index(monkeypatch)
    shutil.move("photos/disk", "away")
    build_index(".bt", [], FakeEncoder())
    assert facts()["photos/a.jpg"] == A
    assert facts()["photos/disk/3.jpg"] == NOTHING
    shutil.move("away", "photos/disk")
    encoder = FakeEncoder()
    build_index(".bt", [], encoder, verify=True)
    assert encoder.encoded == []
    assert facts()["photos/disk/3.jpg"] == (None, None, "X3", None, None)
    assert facts()["photos/a.jpg"] == A


def test_a_damaged_table_of_an_earlier_version_is_mended_and_filled_in(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_index(monkeypatch)
    (table,) = Path(".bt").glob("images-*.parquet")
    whole = table.read_bytes()
    for place in range(0, len(whole) - 40, len(whole) // 5):
        shutil.rmtree(".bt")
        old_index(monkeypatch)
        table.write_bytes(whole[:place] + bytes(255 - byte for byte in whole[place : place + 40]) + whole[place + 40 :])
        build_index(".bt", [], PhotoEncoder())
        assert facts() == {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}


def test_a_damaged_embedding_of_an_earlier_version_is_taken_from_the_vectors(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_index(monkeypatch)
    (table,) = Path(".bt").glob("images-*.parquet")
    whole = bytearray(table.read_bytes())
    column = pyarrow.parquet.ParquetFile(table).metadata.row_group(0).column(7)
    assert column.path_in_schema == "embedding.list.element"
    whole[column.data_page_offset + column.total_compressed_size - 4] ^= 1
    table.write_bytes(whole)
    assert build_index(".bt", [], PhotoEncoder()).encoded == 0
    assert facts() == {"photos/a.jpg": A, "photos/b.jpg": B, "photos/c.jpg": NOTHING}


def test_the_first_format_of_all_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(__file__).resolve().parents[1] / "store" / "format_1", tmp_path / ".bt")
    monkeypatch.chdir(tmp_path)
    with IndexFolder.open(".bt") as folder:
        assert set(facts().values()) == {NOTHING}
        assert folder.photos.facts([3, 7]) == [PhotoFacts(), PhotoFacts()]
        row = folder.photos.row(3)
        assert (row.paths, row.size.tolist()) == ([folder.stored_path(3)], [len(b"picture 9")])
        assert [len(batch) for batch in folder.batches(8)] == [8, 8, 4]
        assert all(set(COLUMNS) <= set(batch.column_names) for batch in folder.batches(8))


def test_tables_bring_theirs_along_and_those_of_an_earlier_version_bring_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_image_table(["photos/a.jpg"], "new.parquet", PhotoEncoder())
    with monkeypatch.context() as earlier:
        earlier.setattr(embedding_table, "photo_fields", list)
        encode_image_table(["photos/b.jpg"], "old.parquet", FakeEncoder())
    index_tables(".bt", ["new.parquet", "old.parquet"])
    assert facts() == {"photos/a.jpg": A, "photos/b.jpg": NOTHING}
    encode_image_table(["photos/b.jpg"], "lines.npy", PhotoEncoder())
    assert '"taken": "2024-06-04T00:00:00", "taken_offset": null, "camera": "Acme B2"' in Path(
        "lines.rows.jsonl"
    ).read_text("utf-8")


def test_degrees_of_another_program_that_can_not_be_are_none(home: Path) -> None:
    encode_image_table(["photos/a.jpg"], "t.parquet", PhotoEncoder())
    table = pyarrow.parquet.read_table("t.parquet")
    place = table.schema.get_field_index("latitude")
    table = table.set_column(place, table.schema.field(place), pa.array([np.nan]))
    place = table.schema.get_field_index("longitude")
    table = table.set_column(place, table.schema.field(place), pa.array([1e9]))
    pyarrow.parquet.write_table(table, "t.parquet")
    index_tables(".bt", ["t.parquet"])
    assert facts() == {"photos/a.jpg": (*A[:3], None, None)}
