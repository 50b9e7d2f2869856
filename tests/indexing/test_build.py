"""Indexing with an exact stand-in for the network: what is encoded, what is kept, and what the table holds in the
end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder, embedding_of
from permissions import bound_by_permissions

from bt_cli.captions.captions import Caption
from bt_cli.datasets.image_folder import content_hash
from bt_cli.embeddings.embedding_table import nanoseconds
from bt_cli.errors import (
    BrokenIndex,
    EmptyFolder,
    IndexBusy,
    IndexMismatch,
    Misuse,
    NotFound,
    UnreadableImage,
    Unwritable,
)
from bt_cli.files.lock import WriterLock
from bt_cli.indexing.build import build_index
from bt_cli.indexing.encoder import EncodedBatch
from bt_cli.indexing.summary import IndexSummary
from bt_cli.store.index_folder import IndexFolder, index_place
from bt_cli.store.manifest import Manifest


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with three images in `photos`."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.png", "sub/c.JPG"):
        write(tmp_path / "photos" / name, f"content of {name}")
    return tmp_path


def index(*roots: str, encoder: FakeEncoder | None = None, **options: object) -> IndexSummary:
    return build_index(".bt", roots, encoder or FakeEncoder(), **options)  # type: ignore[arg-type]


def counts(summary: IndexSummary) -> dict[str, int]:
    names = ("added", "updated", "removed", "unchanged", "skipped", "encoded")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def table() -> list[dict]:
    """The rows of the Parquet table, embeddings as lists."""
    with IndexFolder.open(".bt") as folder:
        return folder.table().to_pylist()


def mtimes() -> list[int]:
    """Nanoseconds since 1970."""
    with IndexFolder.open(".bt") as folder:
        return nanoseconds(folder.table(["mtime"]).column("mtime")).tolist()


def contents() -> dict[str, str]:
    return {row["path"]: row["content_hash"] for row in table()}


def assert_vectors_belong() -> None:
    """Every row's vector is that of the file it names, in the table and in the searched file."""
    with IndexFolder.open(".bt") as folder:
        vectors = folder.vectors_of(np.arange(len(folder)))
        for number, row in enumerate(folder.table().to_pylist()):
            expected = embedding_of(Path(folder.paths([number])[0]).read_bytes()).astype(np.float16)
            assert np.array_equal(np.array(row["embedding"], np.float16), expected)
            assert np.array_equal(vectors[number], expected.astype(np.float32))


def test_a_first_index_holds_each_image_once_in_path_order(home: Path) -> None:
    encoder = FakeEncoder()
    summary = index("photos", encoder=encoder)
    assert counts(summary) == {"added": 3, "encoded": 3}
    assert summary.index == ".bt"
    rows = table()
    assert [row["path"] for row in rows] == ["photos/a.jpg", "photos/b.png", "photos/sub/c.JPG"]
    first, file = rows[0], home / "photos/a.jpg"
    assert first["content_hash"] == content_hash(file)
    assert (first["size"], mtimes()[0]) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert (first["width"], first["height"]) == (len("content of a.jpg"), 1 + ord("c"))
    assert_vectors_belong()


def test_nothing_new_encodes_nothing_and_writes_nothing(home: Path) -> None:
    index("photos")
    before = {path.name: path.stat().st_mtime_ns for path in (home / ".bt").iterdir() if path.name != "lock"}
    encoder = FakeEncoder()
    assert counts(index("photos", encoder=encoder)) == {"unchanged": 3}
    assert encoder.encoded == []
    assert before == {path.name: path.stat().st_mtime_ns for path in (home / ".bt").iterdir() if path.name != "lock"}


def test_changes_are_found(home: Path) -> None:
    index("photos")
    write(home / "photos/a.jpg", "other content")
    write(home / "photos/new.webp", "new")
    (home / "photos/b.png").unlink()
    encoder = FakeEncoder()
    assert counts(index("photos", encoder=encoder)) == {
        "added": 1,
        "updated": 1,
        "removed": 1,
        "unchanged": 1,
        "encoded": 2,
    }
    assert sorted(map(os.path.basename, encoder.encoded)) == ["a.jpg", "new.webp"]
    assert list(contents()) == ["photos/a.jpg", "photos/new.webp", "photos/sub/c.JPG"]
    assert_vectors_belong()


def test_a_touched_file_is_hashed_and_not_encoded(home: Path) -> None:
    index("photos")
    os.utime(home / "photos/a.jpg", ns=(1, 1))
    encoder = FakeEncoder()
    assert counts(index(encoder=encoder)) == {"unchanged": 3}
    assert encoder.encoded == []
    assert mtimes()[0] == 1


def test_moved_swapped_and_copied_files_keep_their_vectors(home: Path) -> None:
    index("photos")
    shutil.move(home / "photos/b.png", home / "photos/moved.png")
    a, c = home / "photos/a.jpg", home / "photos/sub/c.JPG"
    one, other = a.read_bytes(), c.read_bytes()
    a.write_bytes(other)
    c.write_bytes(one)
    shutil.copy(a, home / "photos/z-copy.jpg")
    encoder = FakeEncoder()
    summary = index("photos", encoder=encoder)
    assert encoder.encoded == []
    assert counts(summary) == {"added": 2, "updated": 2, "removed": 1}
    assert_vectors_belong()


def test_an_updated_index_equals_one_made_at_once(home: Path) -> None:
    index("photos")
    write(home / "photos/a.jpg", "changed")
    write(home / "photos/0.jpg", "first")
    (home / "photos/sub/c.JPG").rename(home / "photos/d.jpg")
    index("photos")
    updated = table()
    shutil.rmtree(home / ".bt")
    index("photos")
    assert table() == updated


def test_several_roots_each_updated_alone(home: Path) -> None:
    write(home / "other/x.jpg", "x")
    index("photos")
    assert counts(index("other")) == {"added": 1, "unchanged": 3, "encoded": 1}
    (home / "photos/a.jpg").unlink()
    (home / "other/x.jpg").unlink()
    write(home / "other/y.jpg", "y")
    # Only the named root is looked through; a.jpg's row stays until its root is.
    assert counts(index("other")) == {"added": 1, "removed": 1, "unchanged": 3, "encoded": 1}
    assert counts(index()) == {"removed": 1, "unchanged": 3}
    assert list(contents()) == ["other/y.jpg", "photos/b.png", "photos/sub/c.JPG"]
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["photos", "other"]


def test_roots_within_roots_and_the_same_root_by_other_names(home: Path) -> None:
    index("photos/sub", "photos", "./photos/", str(home / "photos"))
    assert list(contents()) == ["photos/a.jpg", "photos/b.png", "photos/sub/c.JPG"]
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["photos"]
    assert counts(index("photos/sub")) == {"unchanged": 3}


def test_one_folder_under_two_names_is_one_root(home: Path) -> None:
    (home / "link").symlink_to("photos")
    (home / "far").mkdir()
    (home / "far/sub").symlink_to(home / "photos/sub")
    index("photos")
    (home / "photos/inner").symlink_to("sub")
    for other in ("link", "far/sub", str(home / "link/sub"), "photos/inner"):
        assert counts(index(other)) == {"unchanged": 3}
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["photos"]
    shutil.rmtree(home / ".bt")
    index("link", "photos")
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["link"]
    assert counts(index("photos")) == {"unchanged": 3}


def test_a_path_back_from_a_link_is_the_file_systems(home: Path) -> None:
    write(home / "far/pics/x.jpg", "x")
    (home / "far/deep").mkdir()
    (home / "link").symlink_to("far/deep")
    index("link/../pics")  # `pics` beside the link is no folder at all
    assert list(contents()) == ["far/pics/x.jpg"]


@pytest.mark.parametrize("linked_first", [True, False])
def test_an_update_through_a_link_to_the_index(home: Path, linked_first: bool) -> None:
    (home / "far").mkdir()
    if linked_first:  # the index on another disk, its link beside the pictures
        (home / "far/idx").mkdir()
        (home / ".bt").symlink_to(home / "far/idx")
        index("photos")
    else:  # the link elsewhere, the index beside the pictures
        index("photos")
        (home / "far/link").symlink_to(home / ".bt")
    for name in (".bt", "far/idx" if linked_first else "far/link"):
        if not (linked_first and name == "far/idx"):
            assert counts(build_index(name, [], FakeEncoder())) == {"unchanged": 3}
    write(home / "photos/new.jpg", "new")
    through = ".bt" if linked_first else "far/link"
    assert counts(build_index(through, [], FakeEncoder())) == {"added": 1, "unchanged": 3, "encoded": 1}
    assert list(contents()) == ["photos/a.jpg", "photos/b.png", "photos/new.jpg", "photos/sub/c.JPG"]
    assert json.loads((home / ".bt/manifest.json").read_text())["home"] == str(home)


def test_single_files_of_any_name_stay_when_their_folder_is_indexed(home: Path) -> None:
    write(home / "photos/scan.dat", "an image by another name")
    assert counts(index("photos/scan.dat", "photos/a.jpg")) == {"added": 2, "encoded": 2}
    assert counts(index("photos")) == {"added": 2, "unchanged": 2, "encoded": 2}
    assert counts(index()) == {"unchanged": 4}
    (home / "photos/scan.dat").unlink()
    assert counts(index()) == {"removed": 1, "unchanged": 3}


def test_a_file_without_a_suffix_stays_a_root_beside_its_folder(home: Path) -> None:
    write(home / "photos/scan", "BM of no known signature")
    index("photos/scan")
    assert counts(index("photos")) == {"added": 3, "unchanged": 1, "encoded": 3}
    assert counts(index()) == {"unchanged": 4}
    shutil.rmtree(home / ".bt")
    assert counts(index("photos", "photos/scan")) == {"added": 4, "encoded": 4}


def test_images_outside_are_kept_by_absolute_path(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "o.jpg", "outside")
    index("photos", str(outside))
    assert next(iter(contents())) == str(outside / "o.jpg")
    assert_vectors_belong()


def absent(*folders: str) -> str:
    """The remark about folders that have no image now."""
    return f"not there now, or without images: {', '.join(folders)}; what the index has of them stays"


@pytest.mark.parametrize("named", [["disk"], [], ["."], ["photos", "disk"]])
@pytest.mark.parametrize("state", ["empty", "without images", "missing"])
def test_a_root_that_is_not_mounted_keeps_its_rows_however_it_is_walked_to(
    home: Path, caplog: pytest.LogCaptureFixture, named: list[str], state: str
) -> None:
    write(home / "disk/x.jpg", "x")
    write(home / "disk/deep/y.jpg", "y")
    index("photos", "disk")
    (home / "disk").rename(home / ".hold")
    if state != "missing":
        (home / "disk").mkdir()
    if state == "without images":
        write(home / "disk/readme.txt", "not mounted")
    if state == "missing" and "disk" in named:
        with pytest.raises(NotFound, match="disk: no such file or folder"):
            index(*named)
    else:
        assert counts(index(*named)) == {"unchanged": 5}
        assert absent(f"{home / 'disk'} (2)") in caplog.text
    shutil.rmtree(home / "disk", ignore_errors=True)
    (home / ".hold").rename(home / "disk")
    encoder = FakeEncoder()
    assert counts(index(encoder=encoder)) == {"unchanged": 5}
    assert encoder.encoded == []


def test_a_folder_at_any_depth_that_has_no_image_now_keeps_its_rows(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(home / "photos/2020/may/x.jpg", "x")
    write(home / "photos/2020/may/deep/y.jpg", "y")
    write(home / "photos/2020/june/z.jpg", "z")
    index("photos")
    shutil.rmtree(home / "photos/2020/may")
    (home / "photos/2020/may").mkdir()
    (home / "photos/a.jpg").unlink()  # from a folder that has others: deleted
    assert counts(index()) == {"removed": 1, "unchanged": 5}
    assert absent(f"{home / 'photos/2020/may'} (2)") in caplog.text
    shutil.rmtree(home / "photos/2020")
    assert counts(index()) == {"unchanged": 5}
    assert absent(f"{home / 'photos/2020'} (3)") in caplog.text
    assert counts(index(forget=["photos/2020/june"])) == {"removed": 1, "unchanged": 4}
    assert counts(index(forget=["photos/2020"])) == {"removed": 2, "unchanged": 2}
    caplog.clear()
    assert counts(index()) == {"unchanged": 2}
    assert caplog.text == ""


def test_a_folder_that_moved_within_the_roots_leaves_nothing_behind(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(home / "photos/sub/twin.jpg", "content of c.JPG")
    write(home / "photos/sub/more/c.JPG", "content of sub/c.JPG")
    index("photos")
    (home / "photos/sub").rename(home / "photos/moved")
    encoder = FakeEncoder()
    assert counts(index(encoder=encoder)) == {"added": 3, "removed": 3, "unchanged": 2}
    assert encoder.encoded == []
    assert caplog.text == ""
    # One copy of two that went away came back elsewhere: the other one stays.
    (home / "photos/moved").rename(home / ".away")
    shutil.copy(home / ".away/c.JPG", home / "photos/c2.jpg")
    assert counts(index()) == {"added": 1, "removed": 1, "unchanged": 4}
    assert absent(f"{home / 'photos/moved'} (2)") in caplog.text
    (home / ".away").rename(home / "photos/moved")
    assert counts(index(encoder=encoder)) == {"added": 1, "unchanged": 5}
    assert encoder.encoded == []


def test_the_first_absent_folders_are_named_and_the_others_counted(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(7):
        write(home / f"photos/{number}/x.jpg", f"x{number}")
    index("photos")
    for number in range(7):
        shutil.rmtree(home / f"photos/{number}")
    index()
    named = [f"{home / 'photos' / str(number)} (1)" for number in range(5)]
    assert absent(*named, "2 more") in caplog.text


def test_a_single_file_on_a_disk_that_is_not_mounted(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(home / "disk/x.jpg", "x")
    index("disk/x.jpg", "photos")
    (home / "disk/x.jpg").unlink()
    assert counts(index()) == {"unchanged": 4}
    assert absent(f"{home / 'disk'} (1)") in caplog.text
    write(home / "disk/other.txt", "mounted again")
    assert counts(index()) == {"removed": 1, "unchanged": 3}
    assert Manifest.read(".bt").roots == ["photos"]


@pytest.mark.parametrize("renamed", [True, False])
def test_pictures_that_vanish_while_they_are_encoded_keep_their_rows(home: Path, renamed: bool) -> None:
    index("photos")
    before = contents()
    for path in ("a.jpg", "b.png", "sub/c.JPG"):
        write(home / "photos" / path, f"changed content of {path}")

    class Vanishing(FakeEncoder):
        def encode_files(self, paths, captions=None):  # type: ignore[no-untyped-def]
            (home / "photos").rename(home / ".away")
            if not renamed:
                shutil.rmtree(home / ".away")
            for number, path in enumerate(paths):
                yield EncodedBatch([], np.zeros((0, 16), np.float32), [], [], [], [(number, f"{path}: gone")])

    assert counts(index("photos", encoder=Vanishing())) == {"unchanged": 3, "skipped": 3}
    assert contents() == before


def test_a_link_that_leads_nowhere_now_keeps_its_row(home: Path) -> None:
    write(home / "disk/x.jpg", "x")
    (home / "photos/link.jpg").symlink_to(home / "disk/x.jpg")
    index("photos")
    shutil.rmtree(home / "disk")
    assert counts(index()) == {"unchanged": 4, "skipped": 1}


@pytest.mark.parametrize("roots", [[], ["photos"]])
def test_a_rebuild_misses_no_folder(home: Path, roots: list[str]) -> None:
    index("photos")
    shutil.rmtree(home / "photos/sub")
    with pytest.raises(NotFound, match=r"photos/sub: not there now, or without images.* --forget"):
        index(*roots, rebuild=True)
    assert len(contents()) == 3, "the index is as it was"
    assert counts(index(*roots, rebuild=True, forget=["photos/sub"])) == {"added": 2, "encoded": 2}


def test_a_renamed_folder_takes_the_place_of_the_old_one(home: Path) -> None:
    write(home / "other/x.jpg", "x")
    index("photos", "other")
    (home / "photos").rename(home / "pictures")
    encoder = FakeEncoder()
    assert counts(index("pictures", forget=["photos"], encoder=encoder)) == {"added": 3, "removed": 3, "unchanged": 1}
    assert encoder.encoded == []
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["other", "pictures"]
    assert sorted(contents()) == ["other/x.jpg", "pictures/a.jpg", "pictures/b.png", "pictures/sub/c.JPG"]


def test_a_folder_that_is_there_can_be_forgotten_too(home: Path) -> None:
    write(home / "other/x.jpg", "x")
    index("photos", "other")
    assert counts(index(forget=["photos"])) == {"removed": 3, "unchanged": 1}
    assert counts(index()) == {"unchanged": 1}
    with pytest.raises(NotFound, match=r"photos: not one of the folders that the index is made of \(.*other\)"):
        index(forget=["photos"])
    write(home / "other/sub/z.jpg", "z")
    index()
    with pytest.raises(Misuse, match=r"other/sub: has images, and a folder .* holds it"):
        index(forget=["other/sub"])
    assert counts(index()) == {"unchanged": 2}
    with pytest.raises(Misuse, match="nothing to index"):
        index(forget=["other"])
    assert list(contents()) == ["other/sub/z.jpg", "other/x.jpg"]


def test_a_folder_that_is_gone_altogether_keeps_its_rows_and_a_file_does_not(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(home / "disk/x.jpg", "x")
    write(home / "y.jpg", "y")
    index("photos", "disk", "y.jpg")
    shutil.rmtree(home / "disk")
    (home / "y.jpg").unlink()
    assert counts(index()) == {"removed": 1, "unchanged": 4}
    assert absent(f"{home / 'disk'} (1)") in caplog.text
    assert json.loads((home / ".bt/manifest.json").read_text())["roots"] == ["photos", "disk"]
    write(home / "disk/x.jpg", "x")
    encoder = FakeEncoder()
    assert counts(index(encoder=encoder)) == {"unchanged": 4}
    assert encoder.encoded == []


def test_a_folder_that_cannot_be_read_keeps_its_rows(home: Path) -> None:
    index("photos")
    (home / "photos/sub").chmod(0)
    try:
        with bound_by_permissions():
            with pytest.raises(PermissionError):
                os.listdir(home / "photos/sub")
            assert counts(index("photos")) == {"unchanged": 3}
    finally:
        (home / "photos/sub").chmod(0o755)


def test_files_that_cannot_be_read_are_skipped_and_named(home: Path) -> None:
    write(home / "photos/bad.jpg", "broken")
    os.symlink("nowhere.jpg", home / "photos/link.jpg")
    summary = index("photos")
    assert counts(summary) == {"added": 3, "skipped": 2, "encoded": 3}
    bad, link = str(home / "photos/bad.jpg"), str(home / "photos/link.jpg")
    assert sorted(summary.failures) == [
        (bad, f"{bad}: not an image"),
        (link, f"{link}: No such file or directory"),
    ]
    # A row whose file went bad goes.
    write(home / "photos/a.jpg", "broken now")
    assert counts(index("photos")) == {"removed": 1, "unchanged": 2, "skipped": 3}
    with pytest.raises(UnreadableImage, match=r"link\.jpg: No such file"):
        index("photos", strict=True)
    assert len(table()) == 2


def test_an_interrupted_run_goes_on_where_it_stopped(home: Path) -> None:
    for number in range(20):
        write(home / f"photos/{number:02d}.jpg", f"number {number}")

    def stop(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    first = FakeEncoder()
    with pytest.raises(KeyboardInterrupt):
        index("photos", encoder=first, progress=stop)
    assert not (home / ".bt/manifest.json").exists()
    second = FakeEncoder()
    summary = index("photos", encoder=second)
    assert counts(summary) == {"added": 23, "encoded": 11}
    assert sorted(first.encoded + second.encoded) == sorted(str(path) for path in (home / "photos").rglob("*.*"))
    assert not (home / ".bt/journal").exists()
    resumed = table()
    shutil.rmtree(home / ".bt")
    index("photos")
    assert table() == resumed


def test_an_interrupted_run_in_another_precision_is_named(home: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    first, second = FakeEncoder(batch_size=2), FakeEncoder()
    first.identity = replace(first.identity, precision="bfloat16")
    with pytest.raises(KeyboardInterrupt):
        index("photos", encoder=first, progress=stop)
    assert counts(index("photos", encoder=second)) == {"added": 3, "encoded": 1}
    with IndexFolder.open(".bt") as folder:
        assert folder.identity.precision == "bfloat16+float32"
        assert folder.table().schema.metadata[b"bt.precision"] == b"bfloat16+float32"


def test_an_empty_journal_that_a_kill_left_goes_with_a_run_that_finds_nothing_new(home: Path) -> None:
    index("photos")
    (home / ".bt/journal/images").mkdir(parents=True)
    index("photos")
    assert not (home / ".bt/journal").exists()


def test_a_journal_of_another_checkpoint_is_not_used(home: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index("photos", progress=stop)
    assert counts(index("photos", encoder=FakeEncoder(fingerprint="0" * 64))) == {"added": 3, "encoded": 3}


def test_another_checkpoint_is_refused_and_rebuild_takes_it(home: Path) -> None:
    index("photos")
    other = FakeEncoder(fingerprint="0" * 64, name="other")
    with pytest.raises(IndexMismatch, match=r"index \.bt: made by checkpoint fake, not other; .*--rebuild"):
        index("photos", encoder=other)
    assert counts(index(encoder=other, rebuild=True)) == {"added": 3, "encoded": 3}
    with IndexFolder.open(".bt") as folder:
        assert folder.identity.checkpoint == "other"
        with pytest.raises(IndexMismatch, match="made by checkpoint other, not fake"):
            folder.require(FakeEncoder().identity)


def test_rebuild_takes_the_roots_it_is_given_alone(home: Path) -> None:
    write(home / "other/x.jpg", "x")
    index("photos", "other")
    assert counts(index("other", rebuild=True)) == {"added": 1, "encoded": 1}
    assert list(contents()) == ["other/x.jpg"]


def test_a_rebuild_misses_no_root(home: Path) -> None:
    write(home / "other/x.jpg", "x")
    index("photos", "other")
    (home / "other").rename(home / "away")
    with pytest.raises(NotFound, match=r"other: not there now; bring it back, or let it go with --forget"):
        index(rebuild=True)
    assert len(contents()) == 4, "the index is as it was"
    assert counts(index("photos", rebuild=True)) == {"added": 3, "encoded": 3}


def test_a_broken_manifest_is_named_and_rebuilt(home: Path) -> None:
    index("photos")
    (home / ".bt/manifest.json").write_text("{")
    (home / ".bt/manifest-000001.json").unlink()
    with pytest.raises(BrokenIndex, match=r"manifest\.json: .*--rebuild"):
        index("photos")
    assert counts(index("photos", rebuild=True)) == {"added": 3, "encoded": 3}
    assert len(list((home / ".bt").glob("images-*.parquet"))) == 1


def test_a_manifest_that_is_a_folder_is_put_away_by_a_rebuild(home: Path) -> None:
    index("photos")
    (home / ".bt/manifest.json").unlink()
    (home / ".bt/manifest.json").mkdir()
    (home / ".bt/manifest-000001.json").unlink()
    assert counts(index("photos", rebuild=True)) == {"added": 3, "encoded": 3}
    assert (home / ".bt/manifest.json.folder-1").is_dir()


def test_a_damaged_table_is_made_anew_and_not_copied(home: Path) -> None:
    index("photos")
    table_file = home / ".bt/images-000001.parquet"
    content = bytearray(table_file.read_bytes())
    place = content.find(embedding_of(b"content of a.jpg").astype(np.float16).tobytes())
    content[place] ^= 1
    table_file.write_bytes(content)
    write(home / "photos/new.jpg", "new")
    assert counts(index("photos")) == {"added": 1, "encoded": 1, "unchanged": 3}
    table = pyarrow.parquet.read_table(home / ".bt/images.parquet")
    row = table.column("path").to_pylist().index("photos/a.jpg")
    kept = np.array(table.column("embedding")[row].as_py(), np.float16)
    np.testing.assert_array_equal(kept, embedding_of(b"content of a.jpg").astype(np.float16))


def test_fewer_images_than_a_factory_needs_are_searched_exactly(home: Path) -> None:
    index("photos", factory="IVF4,Flat")
    images = Manifest.read(".bt").pieces[0]
    assert (images.kind, images.reason) == ("exact", "3 vectors are too few to train IVF4,Flat")
    for path in ("a.jpg", "b.png", "sub/c.JPG"):
        write(home / "photos" / path, "broken now")
    assert counts(index("photos")) == {"removed": 3, "skipped": 3}
    manifest = Manifest.read(".bt")
    assert (manifest.pieces, manifest.rows) == ([], 0)
    assert manifest.factory == "IVF4,Flat"  # which it gets when there are enough
    with pytest.raises(Misuse, match="--factory IDMap,Flat: FAISS knows it but can't"):
        index("photos", factory="IDMap,Flat")


def test_nothing_to_index(home: Path) -> None:
    (home / "empty").mkdir()
    with pytest.raises(EmptyFolder, match="empty: no images there"):
        index("empty")
    with pytest.raises(NotFound, match="nowhere: no such file or folder"):
        index("nowhere")
    with pytest.raises(Misuse, match="nothing to index"):
        index()
    assert not (home / ".bt").exists()


def test_an_index_keeps_away_from_other_files(home: Path) -> None:
    with pytest.raises(Unwritable, match=r"photos: holds other files and no index; .* --index photos/\.bt"):
        build_index("photos", ["photos"], FakeEncoder())
    assert sorted(path.name for path in (home / "photos").iterdir()) == ["a.jpg", "b.png", "sub"]
    (home / "fresh").mkdir()
    (home / "fresh/.DS_Store").touch()
    assert build_index("fresh", ["photos"], FakeEncoder()).added == 3, "what a file manager leaves is no one's file"
    # An index that is among pictures already leaves them alone.
    names = ["images-0001.jpg", "paths-x.bin", "vectors-1.faiss", "images-000007.parquet.jpg", "unsorted-cat.jpg"]
    for name in [*names, "lock"]:
        write(home / "photos" / name, name if name != "lock" else "")
    (home / "photos/images-000001.parquet").write_bytes(b"of a run that was stopped")
    for _ in range(2):
        build_index("photos", ["photos"], FakeEncoder())
        write(home / "photos/a.jpg", "other content")
    there = {path.name for path in (home / "photos").iterdir()}
    assert {*names, "a.jpg", "images-000002.parquet"} <= there
    assert "images-000001.parquet" not in there


@pytest.mark.parametrize("left", [[], ["lock"], ["images-000001.parquet", "bridges"], ["lock", "journal", "x.jpg"]])
def test_what_an_interrupted_first_run_left_is_taken_up(home: Path, left: list[str]) -> None:
    for name in left:
        write(home / ".bt" / name, "") if name not in ("journal", "bridges") else (home / ".bt" / name).mkdir()
    (home / ".bt").mkdir(exist_ok=True)
    assert counts(index("photos")) == {"added": 3, "encoded": 3}


def test_a_manifest_that_was_being_written_is_swept_up(home: Path) -> None:
    index("photos")
    part = home / ".bt/.manifest.json.a_b0z9q1.part"
    others = [home / ".bt/.manifest.json.part", home / ".bt/x.manifest.json.a_b0z9q1.part"]
    for path in [part, *others]:
        write(path, "{")
    index("photos")
    assert not part.exists()
    assert all(path.exists() for path in others)


def test_an_index_without_a_name(home: Path) -> None:
    for refused in (lambda: build_index("", ["photos"], FakeEncoder()), lambda: index_place("")):
        with pytest.raises(Misuse, match="name is empty; leave --index and BT_INDEX out"):
            refused()
    with pytest.raises(Misuse, match="name is empty"):
        IndexFolder.locate("")


def test_a_second_writer_is_told_who_writes(home: Path) -> None:
    index("photos")
    with WriterLock(home / ".bt"), pytest.raises(IndexBusy, match=rf"\.bt: process {os.getpid()} on .* is writing"):
        index("photos")
    index("photos")


def test_a_full_disk_has_room_for_the_lock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".bt").mkdir()

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with WriterLock(home / ".bt") as lock:
        with pytest.raises(IndexBusy, match=r"\.bt: another process is writing"), WriterLock(home / ".bt"):
            pass
        assert lock.held
    assert not lock.held


def test_float32_is_kept_and_not_changed_on_the_way(home: Path) -> None:
    index("photos", store_dtype="float32")
    index("photos")
    schema = pyarrow.parquet.read_schema(next((home / ".bt").glob("images-*.parquet")))
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float not null>[16]"
    assert schema.metadata[b"bt.dtype"] == b"float32"
    with pytest.raises(IndexMismatch, match="keeps float32 embeddings, not float16"):
        index("photos", store_dtype="float16")


def test_captions_get_a_table_and_are_encoded_once(home: Path) -> None:
    captions = [
        Caption("a thing", image="a.jpg"),
        Caption("a thing", image="sub/c.JPG", caption_id="7"),
        Caption("lost", image="nowhere.jpg"),
        Caption("alone"),
    ]
    encoder = FakeEncoder()
    summary = index("photos", encoder=encoder, captions=[("captions.csv", captions)])
    assert summary.captions == 4
    assert encoder.texts == ["a thing", "lost", "alone"]
    with IndexFolder.open(".bt") as folder:
        found = folder.captions
        assert found is not None
        scores, ids = found.search(embedding_of(b"a thing")[None], 4)
        assert ids[0, :2].tolist() == [0, 1]
        assert scores[0, :2] == pytest.approx([1, 1], abs=1e-3)
        assert found.texts(ids[0, :2]) == ["a thing", "a thing"]
        assert found.image_ids(range(4)).tolist() == [0, 2, -1, -1]
    # An update without captions keeps them, and their images' rows follow.
    write(home / "photos/0.jpg", "zero")
    encoder = FakeEncoder()
    index("photos", encoder=encoder)
    with IndexFolder.open(".bt") as folder:
        assert folder.captions is not None
        assert folder.captions.image_ids(range(4)).tolist() == [1, 3, -1, -1]
    # New ones take the place of the old; known texts are not encoded again.
    encoder = FakeEncoder()
    assert index("photos", encoder=encoder, captions=[("more.txt", [Caption("lost"), Caption("new")])]).captions == 2
    assert encoder.texts == ["new"]


def owners() -> list[str | None]:
    """The stored path of each caption's image, None for none, as searches find it."""
    with IndexFolder.open(".bt") as folder:
        assert folder.captions is not None
        ids = folder.captions.image_ids(range(len(folder.captions))).tolist()
        return [folder.stored_path(row) if row >= 0 else None for row in ids]


def test_a_rebuild_keeps_the_captions(home: Path) -> None:
    captions = [Caption("one", "a.jpg", "7"), Caption("lost"), Caption("of c", "sub/c.JPG", None)]
    index("photos", captions=[("captions.csv", captions)])
    assert owners() == ["photos/a.jpg", None, "photos/sub/c.JPG"]
    write(home / "photos/sub/d.jpg", "another")
    (home / "photos/sub/c.JPG").unlink()
    other = FakeEncoder(fingerprint="e" * 64, name="other")
    assert index(encoder=other, rebuild=True).captions == 3
    assert other.texts == ["one", "lost", "of c"]
    assert owners() == ["photos/a.jpg", None, None]
    with IndexFolder.open(".bt") as folder:
        assert folder.captions is not None
        assert folder.captions.texts(range(3)) == ["one", "lost", "of c"]
    assert index(encoder=other).captions == 3


def test_captions_follow_pictures_that_move(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(home / "photos/twin.png", "content of b.png")
    named = [Caption(name, image=name) for name in ("a.jpg", "b.png", "twin.png", "sub/c.JPG")]
    index("photos", captions=[("c.csv", [*named, Caption("alone")])])
    a, c = home / "photos/a.jpg", home / "photos/sub/c.JPG"
    # Two of one content go to two other names, two others change places.
    (home / "photos/b.png").rename(home / "photos/new-b.png")
    (home / "photos/twin.png").rename(home / "photos/new-twin.png")
    one, other = a.read_bytes(), c.read_bytes()
    a.write_bytes(other)
    c.write_bytes(one)
    index()
    moved = ["photos/sub/c.JPG", "photos/new-b.png", "photos/new-twin.png", "photos/a.jpg", None]
    assert owners() == moved
    assert "captions" not in caplog.text
    # Edited in place a picture keeps its captions; one of two copies gone, they go to the other.
    write(a, "edited")
    (home / "photos/new-b.png").unlink()
    index()
    assert owners() == [moved[0], "photos/new-twin.png", *moved[2:]]
    assert "captions" not in caplog.text
    c.unlink()
    index(forget=["photos/sub"])
    assert owners() == [None, "photos/new-twin.png", *moved[2:]]
    assert "captions whose image has left the index: 1; they stay" in caplog.text


def test_names_that_are_no_utf8_or_hold_line_breaks(home: Path) -> None:
    names = [b"\xff\xfe.jpg", b"line\nbreak.jpg", b" space .jpg", "\u732b.jpg".encode()]
    for name in names:
        Path(os.fsdecode(b"photos/" + name)).write_bytes(b"odd " + name)
    index("photos")
    assert counts(index("photos")) == {"unchanged": 7}
    with IndexFolder.open(".bt") as folder:
        paths = [os.fsencode(path) for path in folder.paths(range(len(folder)))]
    assert sorted(paths) == sorted(
        [b"photos/a.jpg", b"photos/b.png", b"photos/sub/c.JPG"] + [b"photos/" + n for n in names]
    )
    odd = [row for row in table() if row["path_bytes"] is not None]
    assert [(row["path"], row["path_bytes"]) for row in odd] == [("photos/\\xff\\xfe.jpg", b"photos/\xff\xfe.jpg")]
    assert_vectors_belong()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a locale that is not UTF-8")
def test_names_are_the_same_in_every_locale(home: Path) -> None:
    write(home / "f\xf6tos/\u732b.jpg", "a cat")
    index("f\xf6tos", "photos")
    (home / "f\xf6tos/new.jpg").write_bytes(b"new")
    code = (
        "import sys; from pathlib import Path; from indexing.fake_encoder import FakeEncoder\n"
        "from bt_cli.indexing.build import build_index\n"
        "summary = build_index('.bt', sys.argv[1:], FakeEncoder())\n"
        "print(sys.getfilesystemencoding(), summary.added, summary.unchanged, summary.removed)\n"
    )
    python = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    for roots, said in [([], "ascii 1 4 0"), (["f\xf6tos"], "ascii 0 5 0")]:
        run = subprocess.run(
            [sys.executable, "-c", code, *roots], env={**os.environ, **python}, capture_output=True, text=True
        )
        assert (run.stdout.strip(), run.stderr) == (said, "")
    assert counts(index()) == {"unchanged": 5}
    assert Manifest.read(".bt").roots == ["f\xf6tos", "photos"]


def test_progress_counts_what_is_encoded(home: Path) -> None:
    ticks: list[tuple[int, int]] = []
    index("photos", encoder=FakeEncoder(batch_size=2), progress=lambda *tick: ticks.append(tick))
    assert ticks == [(0, 3), (2, 3), (3, 3)]


def test_what_is_left_out_leaves_the_index_and_is_remembered(home: Path) -> None:
    write(home / "photos/raw/x.jpg", "x")
    write(home / "photos/@eaDir/t.jpg", "t")
    assert counts(index("photos")) == {"added": 4, "encoded": 4}
    summary = index("photos", exclude=["raw"])
    assert counts(summary) == {"removed": 1, "unchanged": 3}
    assert summary.passed_over.excluded == 2
    assert counts(index()) == {"unchanged": 3}, "a bare update keeps what is left out"
    assert Manifest.read(".bt").exclude == ["raw"]
    assert counts(index(rebuild=True)) == {"added": 3, "encoded": 3}
    assert counts(index("photos", exclude=["*.png"])) == {"added": 1, "removed": 1, "unchanged": 2, "encoded": 1}
    assert counts(index(exclude=[""], default_excludes=False)) == {"added": 2, "unchanged": 3, "encoded": 2}
    assert counts(index()) == {"unchanged": 5}
    assert (Manifest.read(".bt").exclude, Manifest.read(".bt").default_excludes) == ([], False)


def test_a_root_that_is_left_out_below_another_stays_one(home: Path) -> None:
    write(home / "photos/@eaDir/t.jpg", "t")
    assert counts(index("photos", "photos/@eaDir")) == {"added": 4, "encoded": 4}
    assert Manifest.read(".bt").roots == ["photos", "photos/@eaDir"]
    assert counts(index("photos")) == {"unchanged": 4}
    assert counts(index()) == {"unchanged": 4}


@pytest.mark.parametrize("names", [["bad.jpg"], ["notes.txt"], ["folder"]])
def test_nothing_encoded_leaves_no_index_and_no_root(home: Path, names: list[str]) -> None:
    for name in ("bad.jpg", "notes.txt", "folder/a.jpg", "folder/b.png"):
        write(home / name, "broken")
    with pytest.raises(
        UnreadableImage, match=r"not an image( \(and 1 more that can't be read\))?; nothing was written$"
    ):
        index(*names)
    assert not (home / ".bt").exists()
    index("photos")
    with pytest.raises(UnreadableImage):
        index(*names)
    assert counts(index()) == {"unchanged": 3}
    assert Manifest.read(".bt").roots == ["photos"]


def test_a_root_that_gives_nothing_is_not_kept_beside_one_that_does(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(home / "bad.jpg", "broken")
    summary = index("photos", "bad.jpg")
    assert counts(summary) == {"added": 3, "skipped": 1, "encoded": 3}
    assert Manifest.read(".bt").roots == ["photos"]
    assert caplog.messages == [f"{home}/bad.jpg: no image there that can be read; not added"]


def test_images_that_no_package_reads_are_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = "\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for number in range(60):
        write(home / f"phone/{number}.HEIC", f"{heic}{number}")
    with pytest.raises(EmptyFolder) as caught:
        index("phone")
    assert str(caught.value) == (
        f"{home}/phone: no images there: 60 files passed over: 60 .heic; pip install 'bridgetower[images]' reads .heic"
    )
    assert not (home / ".bt").exists()
    summary = index("phone", "photos")
    assert counts(summary) == {"added": 3, "encoded": 3}
    assert summary.passed_over.suffixes == {".heic": 60}


def test_rows_of_images_that_no_package_reads_any_more_stay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "photos/p.heic", "\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with monkeypatch.context() as patch:
        patch.setattr("bt_cli.indexing.update_run.lacks_reader", lambda path, head: False)
        assert counts(index("photos")) == {"added": 4, "encoded": 4}
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert counts(index()) == {"unchanged": 4}


def test_the_index_folder_is_no_part_of_what_is_counted(home: Path) -> None:
    for _ in range(2):
        summary = build_index("photos/own", ["photos"], FakeEncoder())
        assert (summary.passed_over.suffixes, summary.passed_over.excluded) == ({}, 0)
