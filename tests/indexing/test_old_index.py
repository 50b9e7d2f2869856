"""An index of the first format, made by an earlier version: read, searched, and brought to this one's without encoding
anything."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.embeddings.embedding_table import nanoseconds
from bt_cli.indexing.build import build_index
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

OLD = Path(__file__).resolve().parents[1] / "store" / "format_1"
FIRST_TIME = 1_700_000_000_000_000_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the old index and the pictures that it was made of."""
    shutil.copytree(OLD, tmp_path / ".bt")
    for number in range(20):
        file = tmp_path / f"photos/{number % 3}/{number:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"picture %d" % number)
        os.utime(file, ns=(FIRST_TIME + number, FIRST_TIME + number))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_it_answers() -> None:
    with IndexFolder.open(".bt") as index:
        assert len(index) == 20
        for number in range(20):
            found = index.search(embedding_of(b"picture %d" % number)[None], 1)[1][0]
            assert index.paths(found) == [f"photos/{number % 3}/{number:02d}.jpg"]
        captions = index.captions
        assert captions is not None
        assert captions.texts(range(9)) == [*(f"caption {number}" for number in range(8)), "alone"]
        owners = captions.image_ids(range(9))
        assert index.paths(owners[:8]) == [f"photos/{number % 3}/{number:02d}.jpg" for number in range(8)]
        assert owners[8] == -1


def test_it_is_read_and_searched_as_it_is(home: Path) -> None:
    assert Manifest.read(".bt").format == 1
    assert_it_answers()
    assert not (home / ".bt/lock").exists()


def test_the_next_update_migrates_it_without_encoding(home: Path) -> None:
    encoder = FakeEncoder()
    summary = build_index(".bt", [], encoder)
    assert (summary.unchanged, summary.encoded, encoder.encoded, encoder.texts) == (20, 0, [], [])
    manifest = Manifest.read(".bt")
    assert manifest.format == 2
    assert_it_answers()
    with IndexFolder.open(".bt") as index:
        table = index.table()
        times = nanoseconds(table.column("mtime"))
        assert sorted(times.tolist()) == list(range(FIRST_TIME, FIRST_TIME + 20))
        assert table.schema.metadata[b"bt.home"] == os.fsencode(home)
        for number, row in enumerate(np.array(table.column("embedding").to_pylist(), np.float16)):
            content = Path(index.paths([number])[0]).read_bytes()
            assert np.array_equal(row, embedding_of(content).astype(np.float16))
    assert {path.name for path in (home / ".bt").glob("*-*")} == manifest.files()
    assert build_index(".bt", [], encoder).unchanged == 20
    assert Manifest.read(".bt") == manifest
