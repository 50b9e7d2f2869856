"""`bt show`: what the index knows of an image, and its file out of whatever holds it."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from photographs import jpeg, photograph
from picture_site import picture_site

from bt_cli.search.indexed_image import safe_name

KEYS = [
    "id", "path", "container", "member", "width", "height", "size", "modified", "content_hash", "taken", "camera",
    "latitude", "longitude", "captions", "kept",
]  # fmt: skip


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bt) -> Path:
    """A photograph in a folder, one in a tar file, one in a Parquet file; two of one name."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("BT_MODEL", "tiny")
    monkeypatch.setenv("BT_DTYPE", "float32")
    photograph(home / "a/p.jpg", taken="2024:06:03 14:05:09", offset="+02:00", model="X100V", place=(48.25, -16.5))
    photograph(home / "b/p.jpg", colour=(0, 0, 200), side=48)
    os.utime("a/p.jpg", (1_700_000_000, 1_700_000_000))
    photograph(home / "t.jpg", colour=(0, 200, 0))
    with tarfile.open("s.tar", "w") as shard:
        shard.add("t.jpg", "deep/0001.jpg")
    Path("t.jpg").unlink()
    pyarrow.parquet.write_table(pa.table({"image": [jpeg((9, 9, 9))]}), "t.parquet")
    Path("c.csv").write_text("image,caption\nb/p.jpg,other\na/p.jpg,one\na/p.jpg,two\n")
    ran = bt("index", "a", "b", "s.tar", "t.parquet", "--captions", "c.csv", "--quiet")
    assert ran.code == 0, ran.err
    return home


def test_everything_that_is_known(bt, album: Path) -> None:
    ran = bt("show", "a/p.jpg", "--json")
    assert (ran.code, ran.err) == (0, "")
    (record,) = ran.objects
    assert list(record) == KEYS
    content = Path("a/p.jpg").read_bytes()
    assert record == {
        "id": 0,
        "path": "a/p.jpg",
        "container": None,
        "member": None,
        "width": 32,
        "height": 32,
        "size": len(content),
        "modified": "2023-11-14T22:13:20Z",
        "content_hash": hashlib.sha256(content).hexdigest(),
        "taken": "2024-06-03T14:05:09+02:00",
        "camera": "X100V",
        "latitude": 48.25,
        "longitude": -16.5,
        "captions": ["one", "two"],
        "kept": {},
    }
    plain = bt("show", "0")
    assert plain.code == 0
    assert [line.split(None, 1) for line in plain.out.splitlines() if line.strip()] == [
        ["id", "0"],
        ["image", "a/p.jpg"],
        ["pixels", "32 x 32"],
        ["bytes", f"{len(content):,}"],
        ["modified", "2023-11-14T22:13:20Z"],
        ["taken", "2024-06-03T14:05:09+02:00"],
        ["camera", "X100V"],
        ["place", "48.250000, -16.500000"],
        ["caption", "one"],
        ["caption", "two"],
        ["SHA-256", hashlib.sha256(content).hexdigest()],
    ]


def test_every_answer_of_a_search_is_shown_by_its_id_and_by_its_path(bt, album: Path) -> None:
    hits = bt("search", "a cat", "--json").objects
    assert len(hits) == 4
    by_id = bt("show", *(str(hit["id"]) for hit in hits), "--json").objects
    by_path = bt("show", *(hit["path"] for hit in hits), "--json").objects
    assert by_id == by_path
    assert [(record["id"], record["path"]) for record in by_id] == [(hit["id"], hit["path"]) for hit in hits]
    (member,) = (record for record in by_id if record["container"] == "s.tar")
    assert member["member"] == "deep/0001.jpg"


def test_from_another_folder(bt, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("b")
    assert [record["path"] for record in bt("show", "p.jpg", "../a/p.jpg", "--json").objects] == ["p.jpg", "../a/p.jpg"]


def test_files_are_written_out_of_folders_tar_files_and_tables(bt, album: Path) -> None:
    names = ["a/p.jpg", "b/p.jpg", "s.tar/deep/0001.jpg", "t.parquet/000000000"]
    ran = bt("show", *names, "-o", "out", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [record["extracted"] for record in ran.objects] == [
        "out/p.jpg",
        "out/p-2.jpg",
        "out/0001.jpg",
        "out/000000000.jpg",
    ]
    for record in ran.objects:
        assert hashlib.sha256(Path(record["extracted"]).read_bytes()).hexdigest() == record["content_hash"]
    assert sorted(os.listdir("out")) == ["000000000.jpg", "0001.jpg", "p-2.jpg", "p.jpg"]
    assert bt("show", "a/p.jpg", "--extract", "new").out.splitlines()[-1].split() == ["written", "to", "new/p.jpg"]


def test_nothing_is_overwritten_without_a_word_and_no_link_is_followed(bt, album: Path, tmp_path: Path) -> None:
    Path("out").mkdir()
    Path("out/p.jpg").write_text("mine")
    ran = bt("show", "a/p.jpg", "-o", "out")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "bt: out/p.jpg: is there already; --overwrite replaces it, or name another folder\n"
    assert Path("out/p.jpg").read_text() == "mine"
    assert bt("show", "a/p.jpg", "-o", "out", "--overwrite").code == 0
    assert Path("out/p.jpg").read_bytes() == Path("a/p.jpg").read_bytes()
    (tmp_path / "elsewhere").write_text("precious")
    Path("out/p.jpg").unlink()
    Path("out/p.jpg").symlink_to(tmp_path / "elsewhere")
    ran = bt("show", "a/p.jpg", "-o", "out", "--overwrite")
    assert ran.code == 1
    assert ran.err == "bt: out/p.jpg: a link is there, and it may lead elsewhere; name another folder\n"
    assert (tmp_path / "elsewhere").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["4"], 1, "bt: 4: no such id; the index holds 4 images, counted from 0 (./4 is a file of that name)\n"),
        (["p.jpg"], 1, "bt: p.jpg: not in the index; give an id or a path as bt search prints it"),
        (["s.tar"], 1, "bt: s.tar: not in the index;"),
        (["a/*"], 1, "bt: a/*: not in the index;"),
        (["0", "--overwrite"], 2, "bt: --overwrite belongs to --extract\n"),
        (["0", "-o", ""], 2, "bt: invalid value for '--extract' / '-o': the name is empty (see bt show --help)\n"),
        ([], 2, "bt: missing argument"),
    ],
)
def test_what_is_not_there(bt, album: Path, arguments: list[str], code: int, said: str) -> None:
    ran = bt("show", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(said)


def test_a_file_that_has_changed_or_gone(bt, album: Path) -> None:
    photograph(album / "b/p.jpg", colour=(5, 5, 5))
    ran = bt("show", "b/p.jpg", "-o", "out")
    assert ran.code == 0
    assert ran.err == "bt: b/p.jpg: has changed since it was indexed; bt index brings the index up to date\n"
    Path("b/p.jpg").unlink()
    assert bt("show", "b/p.jpg").code == 0
    ran = bt("show", "b/p.jpg", "-o", "more")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith("b/p.jpg: no such file\n")
    assert not Path("more").exists()


@pytest.mark.parametrize(
    "name", ["[x]!.jpg", "a*?\\.jpg", "{1,2}.jpg", " spaces .jpg", os.fsdecode(b"\xff\xe9.jpg"), "line\nbreak.jpg", "7"]
)
def test_odd_names(bt, album: Path, name: str) -> None:
    photograph(album / "odd" / name, colour=(77, 0, 77))
    assert bt("index", "odd", "--quiet").code == 0
    hit = next(hit for hit in bt("search", "a cat", "--json").objects if hit["path"].startswith("odd/"))
    ran = bt("show", hit["path"], "-o", "out", "--json")
    assert ran.code == 0, ran.err
    (record,) = ran.objects
    assert (record["id"], record["path"]) == (hit["id"], hit["path"])
    (written,) = os.listdir("out")
    assert written.isprintable()
    assert Path("out", written).read_bytes() == Path(hit["path"]).read_bytes()


def test_from_the_web(bt, album: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "site/x/%2e%2e%2fpic", colour=(1, 90, 1))
    with picture_site(tmp_path / "site") as web:
        address = f"{web.url}/x/%252e%252e%252fpic"
        Path("list.txt").write_text(f"{address}\n")
        assert bt("index", "list.txt", "--allow-private-urls", "--quiet").code == 0
        ran = bt("show", address, "-o", "w", "--allow-private-urls", "--json")
        assert ran.code == 0, ran.err
        refused = bt("show", address, "-o", "w2")
        assert (refused.code, refused.out) == (1, "")
    assert [record["extracted"] for record in ran.objects] == ["w/%252e%252e%252fpic.jpg"]
    assert Path(ran.objects[0]["extracted"]).read_bytes() == (tmp_path / "site/x/%2e%2e%2fpic").read_bytes()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.jpg", "b.jpg"),
        ("/s.tar/..", "image.jpg"),
        ("https://example.org/", "image.jpg"),
        ("https://example.org/x/..?a=/b.png", "image.jpg"),
        ("https://example.org/p.JPG?size=2", "p.JPG"),
        ("/s.tar/a\\b.jpg", "a_b.jpg"),
        ("/s.tar/..jpg", "jpg.jpg"),
        ("/" + "\u732b" * 200 + ".jpeg", "\u732b" * 65 + ".jpeg"),
        ("/a." + "x" * 300, "image.xxxxxxxxx"),
        ("/a\x1b[31m.jpg", "a_[31m.jpg"),
    ],
)
def test_names_are_safe(path: str, name: str) -> None:
    assert safe_name(path, jpeg()) == name


def test_of_several_indexes(bt, album: Path) -> None:
    photograph(album / "other/o.jpg", colour=(8, 8, 8))
    assert bt("index", "other", "--index", "two", "--quiet").code == 0
    both = ["--index", ".bt", "--index", "two", "--json"]
    assert [record["path"] for record in bt("show", "4", "a/p.jpg", *both).objects] == ["other/o.jpg", "a/p.jpg"]
    assert bt("show", "other/o.jpg", *both).objects[0]["id"] == 4
