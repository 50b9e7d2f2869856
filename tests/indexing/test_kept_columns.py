"""Columns of the images' sources in an index: filled in without encoding, and lost by no change of the index."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder
from kept.kept_sources import NAMES, SOURCES, WANTED, N, folder, kept, parquet, picture, tar

from bt_cli.errors import Misuse
from bt_cli.indexing.build import build_index
from bt_cli.indexing.encoder import EncodedBatch
from bt_cli.indexing.from_tables import index_tables
from bt_cli.indexing.table import encode_image_table
from bt_cli.store import index_writer
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

NOTHING = (None,) * 4


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", SOURCES)
def test_an_index_that_is_there_is_filled_in_without_encoding(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    source = SOURCES[kind]()
    build_index(".bt", [source], FakeEncoder())
    with IndexFolder.open(".bt") as before:
        rows = before.table()
    encoder = FakeEncoder()
    summary = build_index(".bt", [], encoder, keep=NAMES)
    assert (encoder.encoded, summary.updated, summary.unchanged) == ([], 0, N)
    assert caplog.messages == [f"url, caption, pixels, tags read anew for {N} images"]
    assert kept() == WANTED
    with IndexFolder.open(".bt") as after:
        assert after.table().drop_columns(NAMES).equals(rows)
    manifest = Manifest.read(".bt")
    build_index(".bt", [], encoder)  # remembered, and nothing to do
    assert Manifest.read(".bt") == manifest
    build_index(".bt", [], encoder, verify=True)
    assert Manifest.read(".bt") == manifest
    assert encoder.encoded == []


def test_names_are_remembered_replaced_and_forgotten() -> None:
    parquet()
    build_index(".bt", ["p.parquet"], FakeEncoder(), keep=["url", "caption"])
    build_index(".bt", [], FakeEncoder(), keep=["pixels", "url"])
    assert kept() == [(pixels, url) for url, _, pixels, _ in WANTED]
    build_index(".bt", [], FakeEncoder(), rebuild=True)
    assert kept() == [(pixels, url) for url, _, pixels, _ in WANTED]
    encoder = FakeEncoder()
    build_index(".bt", [], encoder, keep=[])
    assert (Manifest.read(".bt").keep, encoder.encoded) == ([], [])
    assert not set(NAMES) & set(pyarrow.parquet.read_schema(".bt/images.parquet").names)
    with pytest.raises(Misuse, match="--keep size"):
        build_index(".bt", [], encoder, keep=["size"])


def test_a_manifest_of_before_is_read_and_a_damaged_one_refused() -> None:
    parquet()
    build_index(".bt", ["p.parquet"], FakeEncoder())
    fields = json.loads(Path(".bt/manifest.json").read_text("utf-8"))
    from bt_cli.store.manifest import _checksum

    del fields["checksum"], fields["keep"], fields["pieces"][0]["keep"]
    Path(".bt/manifest.json").write_text(json.dumps(fields | {"checksum": _checksum(fields)}), "utf-8")
    assert Manifest.read(".bt").keep == []
    build_index(".bt", [], FakeEncoder(), keep=NAMES)
    assert kept() == WANTED


def test_moved_touched_and_changed_images_keep_theirs() -> None:
    folder()
    build_index(".bt", ["folder"], FakeEncoder(), keep=NAMES)
    os.rename("folder/0.png", "folder/sub/zero.png")  # the metadata name the old place
    os.utime("folder/2.png", (1, 1))
    encoder = FakeEncoder()
    build_index(".bt", [], encoder)
    assert encoder.encoded == []
    assert kept() == WANTED
    Path("folder/2.png").write_bytes(picture(50))
    build_index(".bt", [], encoder)
    assert len(encoder.encoded) == 1
    assert kept() == [each for n, each in enumerate(WANTED) if n != 2] + [WANTED[2]]


def test_a_copy_in_another_place_does_not_inherit() -> None:
    folder()
    build_index(".bt", ["folder"], FakeEncoder(), keep=NAMES)
    os.mkdir("plain")
    shutil.copy("folder/0.png", "plain/0.png")
    build_index(".bt", ["plain"], FakeEncoder())
    assert sorted(kept(), key=str) == sorted([*WANTED, NOTHING], key=str)


def test_a_moved_shard_takes_its_own_along() -> None:
    os.mkdir("there")
    tar("there/s.tar")
    build_index(".bt", ["there"], FakeEncoder(), keep=[*NAMES, "key"])
    os.rename("there/s.tar", "there/other.tar")
    encoder = FakeEncoder()
    build_index(".bt", [], encoder)
    assert encoder.encoded == []
    assert kept() == [(*each, f"{n:09d}") for n, each in enumerate(WANTED)]


def test_edited_values_come_with_a_changed_shard_with_keep_or_with_verify() -> None:
    parquet()
    folder()
    build_index(".bt", ["p.parquet", "folder"], FakeEncoder(), keep=["url"])
    parquet(rows=[{"url": f"new {n}"} for n in range(N)])
    lines = Path("folder/metadata.jsonl").read_text("utf-8").replace("https", "ftp")
    Path("folder/metadata.jsonl").write_text(lines, "utf-8")
    encoder = FakeEncoder()
    build_index(".bt", [], encoder)  # the Parquet file is another one, its images the same
    old, new = [each[0] for each in WANTED], [f"new {n}" for n in range(N)]
    assert sorted(value for (value,) in kept()) == sorted([*old, *new])
    build_index(".bt", [], encoder, verify=True)
    ftp = [value.replace("https", "ftp") for value in old if value]
    assert sorted(value for (value,) in kept()) == sorted([*ftp, *new])
    Path("folder/metadata.jsonl").write_text(lines.replace("ftp", "sftp"), "utf-8")
    build_index(".bt", [], encoder, keep=["url"])
    assert sorted(value for (value,) in kept()) == sorted([*(value.replace("ftp", "sftp") for value in ftp), *new])
    assert encoder.encoded == []


def test_a_source_that_is_away_loses_nothing_and_is_filled_in_when_it_is_back(home: Path) -> None:
    folder("disk")
    parquet()
    build_index(".bt", ["disk", "p.parquet"], FakeEncoder(), keep=["url"])
    both = kept()
    shutil.move("disk", "away")
    os.rename("p.parquet", "away.parquet")
    build_index(".bt", [], FakeEncoder(), compact=True, verify=True)
    assert kept() == both
    os.mkdir("more")
    Path("more/x.png").write_bytes(picture(20))
    build_index(".bt", ["more"], FakeEncoder())
    assert kept() == [*both, (None,)]
    shutil.move("away", "disk")
    os.rename("away.parquet", "p.parquet")
    build_index(".bt", [], FakeEncoder(), keep=["url", "pixels"])
    assert kept()[:-1] == [(url, f"{10 * (n // 2)}") for n, (url,) in enumerate(both)]


def test_pieces_with_other_columns_stand_side_by_side_and_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 1)
    folder("old")
    build_index(".bt", ["old"], FakeEncoder())
    shutil.move("old", "away")  # so that its rows stay as they are
    os.mkdir("new")
    for n in range(2):
        Path(f"new/{n}.png").write_bytes(picture(10 + n))
    Path("new/metadata.csv").write_text("file_name,url\n0.png,here\n1.png,there\n", "utf-8")
    build_index(".bt", ["new"], FakeEncoder(), keep=["url"])
    assert [piece.keep for piece in Manifest.read(".bt").pieces] == [[], ["url"]]
    assert kept() == [*[(None,)] * N, ("here",), ("there",)]
    shutil.move("away", "old")
    encoder = FakeEncoder()
    build_index(".bt", [], encoder)
    assert kept() == [*((each[0],) for each in WANTED), ("here",), ("there",)]
    build_index(".bt", [], encoder, compact=True)
    assert len(Manifest.read(".bt").pieces) == 1
    assert kept() == [*((each[0],) for each in WANTED), ("here",), ("there",)]
    assert encoder.encoded == []


def test_a_stopped_run_goes_on_with_them() -> None:
    class Stops(FakeEncoder):
        def encode_files(
            self, paths: Sequence[str], captions: Sequence[Sequence[str]] | None = None
        ) -> Generator[EncodedBatch, None, None]:
            yield next(super().encode_files(paths, captions))
            raise KeyboardInterrupt

    parquet()
    with pytest.raises(KeyboardInterrupt):
        build_index(".bt", ["p.parquet"], Stops(), keep=NAMES)
    encoder = FakeEncoder()
    build_index(".bt", ["p.parquet"], encoder, keep=NAMES)
    assert len(encoder.encoded) == N - 4
    assert kept() == WANTED


KILLED = """
import os, signal, sys
from indexing.fake_encoder import FakeEncoder
from bt_cli.indexing.build import build_index
from bt_cli.store import manifest
class Dies(FakeEncoder):
    def encode_files(self, paths, captions=None):
        for number, batch in enumerate(super().encode_files(paths, captions)):
            yield batch
            if sys.argv[1] == "encoding" and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "writing":
    manifest.Manifest.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build_index(".bt", ["p.parquet"], Dies(batch_size=2), keep=["url", "caption", "pixels", "tags"])
"""


@pytest.mark.parametrize("moment", ["encoding", "writing"])
def test_a_killed_run_goes_on_with_them(moment: str) -> None:
    parquet()
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent)])
    ran = subprocess.run([sys.executable, "-c", KILLED, moment], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert ran.returncode == -signal.SIGKILL
    encoder = FakeEncoder()
    build_index(".bt", ["p.parquet"], encoder, keep=NAMES)
    assert len(encoder.encoded) == (2 if moment == "encoding" else 0)
    assert kept() == WANTED


def _column(table: Path, name: str) -> int:
    """A byte within a column's only page."""
    group = pyarrow.parquet.ParquetFile(table).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    found = next(column for column in columns if column.path_in_schema == name)
    return found.data_page_offset + found.total_compressed_size - 5


@pytest.mark.parametrize("harm", ["url", "caption", "size", "end", "gone"])
def test_a_damaged_table_is_mended_with_them(harm: str) -> None:
    parquet()
    build_index(".bt", ["p.parquet"], FakeEncoder(), keep=NAMES)
    table = Path(".bt") / Manifest.read(".bt").pieces[0].table
    content = bytearray(table.read_bytes())
    if harm == "gone":
        table.unlink()
    else:
        content[-20 if harm == "end" else _column(table, harm)] ^= 4
        table.write_bytes(content)
    build_index(".bt", [], FakeEncoder())
    assert kept() == WANTED


def test_a_damaged_column_whose_source_is_away_says_nothing_wrong() -> None:
    parquet()
    build_index(".bt", ["p.parquet"], FakeEncoder(), keep=NAMES)
    table = Path(".bt") / Manifest.read(".bt").pieces[0].table
    content = bytearray(table.read_bytes())
    content[_column(table, "url")] ^= 4
    table.write_bytes(content)
    os.rename("p.parquet", "away")
    build_index(".bt", [], FakeEncoder())
    with IndexFolder.open(".bt") as index:
        assert set(index.table()["url"].to_pylist()) <= {None, *(each[0] for each in WANTED)}
    os.rename("away", "p.parquet")
    build_index(".bt", [], FakeEncoder())
    assert kept() == WANTED


def test_tables_bring_theirs_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 1)
    folder()
    tar()
    encode_image_table(["folder"], "a.parquet", FakeEncoder(), keep=["url"])
    encode_image_table(["s.tar"], "b.parquet", FakeEncoder(), keep=["key", "url"])
    encode_image_table(["s.tar"], "c.parquet", FakeEncoder())
    index_tables(".bt", ["c.parquet"])
    assert Manifest.read(".bt").keep == []
    summary = index_tables(".bt", ["a.parquet", "b.parquet"])
    assert (summary.added, summary.updated) == (N, N)
    assert Manifest.read(".bt").keep == ["url", "key"]
    urls = [each[0] for each in WANTED]
    assert sorted(kept(), key=str) == sorted(
        [*((url, None) for url in urls), *((url, f"{n:09d}") for n, url in enumerate(urls))], key=str
    )
    manifest = Manifest.read(".bt")
    index_tables(".bt", ["a.parquet", "b.parquet"])
    assert Manifest.read(".bt") == manifest
    build_index(".bt", [], FakeEncoder(), keep=[])
    assert Manifest.read(".bt").keep == []


def test_a_table_that_names_one_of_the_own_columns_is_not_believed() -> None:
    parquet()
    encode_image_table(["p.parquet"], "a.parquet", FakeEncoder(), keep=["url"])
    table = pyarrow.parquet.read_table("a.parquet")
    table = table.replace_schema_metadata({**table.schema.metadata, b"bt.keep": b'["path", "url", "lost", 5]'})
    pyarrow.parquet.write_table(table, "a.parquet")
    index_tables(".bt", ["a.parquet"])
    assert Manifest.read(".bt").keep == ["url"]
    assert kept() == [(each[0],) for each in WANTED]


def test_pandas_reads_them() -> None:
    pandas = pytest.importorskip("pandas")
    parquet()
    build_index(".bt", ["p.parquet"], FakeEncoder(), keep=NAMES)
    frame = pandas.read_parquet(".bt/images.parquet")
    assert frame["url"].tolist() == [each[0] for each in WANTED]
    assert frame["caption"].isna().tolist() == [n == 3 for n in range(N)]
