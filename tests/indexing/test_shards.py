"""Indexing tar shards: equal to a folder, row for row; unchanged ones unopened, damaged and absent ones' rows kept."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_containers import write_data_set
from indexing.fake_encoder import FakeEncoder, Stops

from bt_cli.embeddings.embedding_table import read_columns, read_embeddings
from bt_cli.errors import UnreadableImage
from bt_cli.indexing.build import build_index
from bt_cli.indexing.summary import IndexSummary
from bt_cli.sources import member, tar_shard
from bt_cli.sources.recent import Recent
from bt_cli.store.manifest import Manifest

CONTENTS = {f"{letter}.jpg": f"image {letter}".encode() * 3 for letter in "abcdef"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tar_shard, "_opened", Recent(tar_shard.MOST_OPEN))
    shard("s0.tar", "a.jpg", "b.jpg", "c.jpg")
    shard("s1.tar", "d.jpg", "e.jpg", "f.jpg")
    return tmp_path


def shard(path: str, *names: str, **changed: bytes) -> None:
    with tarfile.open(path, "w") as archive:
        for name in names:
            for member, content in ((name, changed.get(name[0], CONTENTS.get(name))), (name[0] + ".txt", b"words")):
                entry = tarfile.TarInfo(member)
                entry.size = len(content or b"")
                archive.addfile(entry, io.BytesIO(content or b""))


def update(*roots: str, encoder: FakeEncoder | None = None, folder: str = ".bt", **options: object) -> IndexSummary:
    return build_index(folder, roots, encoder or FakeEncoder(), **options)  # type: ignore[arg-type]


def rows(folder: str = ".bt") -> dict[str, tuple[str, bytes]]:
    """Path to (content hash, embedding) of all rows that are there."""
    found = {}
    for piece in Manifest.read(folder).pieces:
        table = read_columns(f"{folder}/{piece.table}", ["path", "content_hash"]).to_pydict()
        vectors = np.concatenate(list(read_embeddings(f"{folder}/{piece.table}")))
        for row in set(range(piece.rows)) - set(piece.deleted_rows().tolist()):
            found[table["path"][row]] = table["content_hash"][row], vectors[row].tobytes()
    return found


def changes(summary: IndexSummary) -> tuple[int, int, int, int, int]:
    return summary.added, summary.updated, summary.removed, summary.unchanged, summary.encoded


def test_shards_are_a_folder_row_for_row() -> None:
    os.mkdir("photos")
    for name, content in CONTENTS.items():
        Path("photos", name).write_bytes(content)
    update("photos", folder="a")
    summary = update("s{0..1}.tar", folder="b")
    assert changes(summary) == (6, 0, 0, 0, 6)
    by_name = [{path.rpartition("/")[2]: row for path, row in rows(folder).items()} for folder in "ab"]
    assert by_name[0] == by_name[1]
    assert sorted(rows("b")) == [*(f"s0.tar/{name}.jpg" for name in "abc"), *(f"s1.tar/{name}.jpg" for name in "def")]
    assert summary.passed_over.suffixes == {".txt": 6}


def test_an_unchanged_shard_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    update(".")
    with monkeypatch.context() as patch:
        patch.setattr(tar_shard, "TarShard", None)
        assert changes(update()) == (0, 0, 0, 6, 0)
        assert changes(update(".")) == (0, 0, 0, 6, 0)
    shard("s1.tar", "d.jpg", "e.jpg", e=b"another image")
    os.utime("s1.tar", ns=(1, 1))
    again = FakeEncoder()
    assert changes(update(encoder=again)) == (0, 1, 1, 4, 1)
    assert [os.path.relpath(path) for path in again.encoded] == ["s1.tar/e.jpg"]


def test_verify_opens_every_shard() -> None:
    update("s0.tar")
    stamp = os.stat("s0.tar")
    shard("s0.tar", "a.jpg", "b.jpg", "c.jpg", b=CONTENTS["b.jpg"].swapcase())
    os.utime("s0.tar", ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert changes(update()) == (0, 0, 0, 3, 0)
    assert changes(update(verify=True)) == (0, 1, 0, 2, 1)


def test_a_new_choice_of_images_opens_the_shards_again() -> None:
    update("s0.tar", exclude=["b.jpg"])
    assert sorted(rows()) == ["s0.tar/a.jpg", "s0.tar/c.jpg"]
    assert changes(update(exclude=[""])) == (1, 0, 0, 2, 1)


def test_a_broken_member_is_named_and_tried_again() -> None:
    shard("s0.tar", "a.jpg", "b.jpg", "c.jpg", b=b"broken")
    summary = update("s0.tar")
    assert (summary.skipped, [os.path.relpath(path) for path, _ in summary.failures]) == (1, ["s0.tar/b.jpg"])
    assert update().skipped == 1
    assert sorted(rows()) == ["s0.tar/a.jpg", "s0.tar/c.jpg"]


def test_rows_of_a_shard_that_is_cut_stay(caplog: pytest.LogCaptureFixture) -> None:
    update("s0.tar", "s1.tar")
    whole = Path("s1.tar").read_bytes()
    before = rows()
    for cut in (0, 100, 512, 700, 2300, len(whole) - 9216):
        Path("s1.tar").write_bytes(whole[:cut])
        summary = update()
        assert summary.skipped == 1, cut
        assert "shard" in summary.failures[0][1]
        assert summary.removed == 0
        assert sorted(rows()) == sorted(before)
    Path("s1.tar").write_bytes(whole)
    assert update().encoded == 0
    assert rows() == before


def test_rows_of_an_absent_shard_stay_until_it_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    update("s0.tar", "s1.tar")
    os.rename("s1.tar", "away")
    assert changes(update()) == (0, 0, 0, 6, 0)
    assert "not there now, or without images: " in caplog.text
    os.rename("away", "s1.tar")
    again = FakeEncoder()
    assert changes(update(encoder=again)) == (0, 0, 0, 6, 0)
    assert again.encoded == []
    os.remove("s1.tar")
    assert changes(update(forget=["s1.tar"])) == (0, 0, 3, 3, 0)


def test_a_moved_shard_is_not_encoded_again() -> None:
    update(".")
    os.mkdir("deep")
    os.rename("s1.tar", "deep/t.tar")
    again = FakeEncoder()
    summary = update(encoder=again)
    assert (summary.added, summary.removed, again.encoded) == (3, 3, [])
    assert sorted(rows()) == [*(f"deep/t.tar/{n}.jpg" for n in "def"), *(f"s0.tar/{n}.jpg" for n in "abc")]


def test_a_shard_of_garbage_makes_no_index() -> None:
    Path("x.tar").write_bytes(os.urandom(2000))
    with pytest.raises(UnreadableImage, match=r"x\.tar: shard .*; no images there"):
        update("x.tar")
    assert not os.path.exists(".bt")


def test_an_interrupted_run_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        update("s0.tar", "s1.tar", encoder=Stops(batch_size=2))
    again = FakeEncoder()
    assert changes(update("s0.tar", "s1.tar", encoder=again)) == (6, 0, 0, 0, 4)


def test_a_member_that_climbs_out_is_only_a_name() -> None:
    with tarfile.open("up.tar", "w") as archive:
        for name in ("../../x.jpg", "/etc/y.jpg", "z.jpg", "z.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    update("up.tar")
    assert sorted(rows()) == ["up.tar/%2E%2E/%2E%2E/x.jpg", "up.tar/etc/y.jpg", "up.tar/z.jpg", "up.tar/z.jpg#2"]
    assert changes(update()) == (0, 0, 0, 4, 0)


def parquet(path: str, *names: str) -> None:
    images = [{"bytes": CONTENTS[name], "path": "all-alike.jpg"} for name in names]
    pq.write_table(pa.table({"image": images}), path, row_group_size=2)


def test_parquet_files_are_a_folder_row_for_row() -> None:
    os.mkdir("photos")
    for name, content in CONTENTS.items():
        Path("photos", name).write_bytes(content)
    os.mkdir("parts")
    parquet("parts/0.parquet", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    parquet("parts/1.parquet", "e.jpg", "f.jpg")
    update("photos", folder="a")
    assert changes(update("parts", folder="b")) == (6, 0, 0, 0, 6)
    found = rows("b")
    assert list(rows("a").values()) == list(found.values())
    places = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert list(found) == [f"parts/{part}.parquet/{row:09d}" for part, row in places]


def test_a_parquet_file_that_changes_or_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    parquet("p.parquet", "a.jpg", "b.jpg", "c.jpg")
    update("p.parquet")
    before = rows()
    with monkeypatch.context() as patch:
        patch.setattr(member, "ParquetShard", None)
        assert changes(update()) == (0, 0, 0, 3, 0)
    whole = Path("p.parquet").read_bytes()
    Path("p.parquet").write_bytes(whole[:-20])
    assert update().skipped == 1
    assert rows() == before
    parquet("p.parquet", "a.jpg", "e.jpg")
    os.utime("p.parquet", ns=(1, 1))
    assert changes(update()) == (0, 1, 1, 1, 1)
    assert sorted(rows()) == ["p.parquet/000000000", "p.parquet/000000001"]


def test_a_data_set_is_a_folder_row_for_row_and_a_changed_part_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("photos")
    for name, content in CONTENTS.items():
        Path("photos", name).write_bytes(content)
    samples = {name: (content, ["words"]) for name, content in CONTENTS.items()}
    first, second = (dict(list(samples.items())[part : part + 3]) for part in (0, 3))
    write_data_set(Path("set"), first, second)
    update("photos", folder="a")
    assert changes(update("set")) == (6, 0, 0, 0, 6)
    assert list(rows("a").values()) == list(rows().values())
    assert list(rows())[4] == "set/data-00001-of-00002.arrow/000000001"
    with monkeypatch.context() as patch:
        patch.setattr(member, "ArrowShard", None)
        assert changes(update()) == (0, 0, 0, 6, 0)
    shutil.rmtree("set")
    stamp = 1_700_000_000
    write_data_set(Path("set"), first, {**second, "e.jpg": (b"another image", ["words"])})
    for number in range(2):
        os.utime(f"set/data-0000{number}-of-00002.arrow", (stamp, stamp + number))
    again = FakeEncoder()
    assert changes(update(encoder=again)) == (0, 1, 0, 5, 1)
    assert [os.path.relpath(path) for path in again.encoded] == ["set/data-00001-of-00002.arrow/000000001"]
    os.truncate("set/data-00000-of-00002.arrow", 500)
    before = rows()
    assert changes(update()) == (0, 0, 0, 6, 0)
    assert rows() == before
