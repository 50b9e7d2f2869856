"""How the images of an index were taken: by whole columns and by the rows near a few, over pieces, deletions and what
an earlier version wrote; and what is said of a damaged table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder

from bt_cli.embeddings import embedding_table
from bt_cli.embeddings.photo_columns import NEVER, UNKNOWN
from bt_cli.errors import BrokenIndex
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.indexing.build import build_index
from bt_cli.store import index_writer
from bt_cli.store.index_folder import IndexFolder


class Numbering(FakeEncoder):
    """A picture's camera is its name."""

    def encode_files(self, paths, captions=None):
        for batch in super().encode_files(paths, captions):
            batch.facts = [PhotoFacts(1, None, Path(paths[number]).name, 1.5, 2.5) for number in batch.numbers]
            yield batch


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of an index of four pieces in the order of their ids; the first piece is an earlier version's, and some
    rows of the others are gone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 0)
    monkeypatch.setattr(embedding_table, "ROW_GROUP", 8)
    for round, count in enumerate((96, 40, 16, 6)):
        pictures = tmp_path / ("p" if round else "old")
        pictures.mkdir(exist_ok=True)
        for number in range(count):
            (pictures / f"{round}-{number:02}.jpg").write_bytes(b"%d %d" % (round, number))
        with monkeypatch.context() as earlier:
            if round == 0:
                earlier.setattr(embedding_table, "photo_fields", list)
            build_index(".bt", [pictures], Numbering())
    for gone in ("1-00", "1-39", "2-05", "3-01"):
        (tmp_path / f"p/{gone}.jpg").unlink()
    build_index(".bt", ["p"], Numbering())
    with IndexFolder.open(".bt") as folder:
        assert len(folder.pieces) == 4
        assert sum(len(piece.deleted) for piece in folder.pieces) == 4
        return [Path(path).name for path in folder.paths(range(len(folder)))]


def wanted(name: str) -> PhotoFacts:
    return PhotoFacts() if name.startswith("0-") else PhotoFacts(1, None, name, 1.5, 2.5)


def test_columns_and_rows_agree(names: list[str]) -> None:
    ids = np.random.default_rng(0).permutation(len(names))
    with IndexFolder.open(".bt") as folder:
        assert [int(np.isnan(folder.photos.column(name)).sum()) for name in ("latitude", "longitude")] == [96, 96]
        assert int((folder.photos.column("taken") == NEVER).sum()) == 96
        assert set(folder.photos.column("taken_offset").tolist()) == {UNKNOWN}
        codes, cameras = folder.photos.cameras()
        assert [[*cameras, None][code] for code in codes.tolist()] == [wanted(name).camera for name in names]
        assert folder.photos.facts(ids) == [wanted(names[id]) for id in ids]
    few = ids[:60]
    with IndexFolder.open(".bt") as folder:
        near = folder.photos.facts(few)
        assert near == folder.photos.facts(few) == [wanted(names[id]) for id in few]
        assert folder.photos.facts([]) == []
        for id in few.tolist():
            assert Path(folder.photos.row(id).paths[0]).name == names[id]


def test_a_closed_index_still_answers(names: list[str]) -> None:
    folder = IndexFolder.open(".bt")
    folder.close()
    for file in Path(".bt").glob("*.parquet"):
        file.unlink()
    assert folder.photos.facts([len(names) - 1]) == [wanted(names[-1])]
    assert len(folder.photos.column("taken")) == len(names)


def test_a_damaged_table_is_named(names: list[str]) -> None:
    with IndexFolder.open(".bt") as folder:
        table = folder.folder / folder.pieces[1].entry.table
    content = bytearray(table.read_bytes())
    content[: len(content) - 200] = bytes(len(content) - 200)
    table.write_bytes(content)
    with IndexFolder.open(".bt") as folder, pytest.raises(BrokenIndex, match=table.name):
        folder.photos.column("taken")
    table.write_bytes(b"")
    with IndexFolder.open(".bt") as folder, pytest.raises(BrokenIndex, match=table.name):
        folder.photos.facts([len(folder.pieces[0])])
