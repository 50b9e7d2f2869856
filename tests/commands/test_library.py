"""`bt duplicates`, `bt label` and `bt search --unique`, with the bundled checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bt) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", "tiny")
    monkeypatch.setenv("BT_DTYPE", "float32")
    (tmp_path / "album").mkdir()
    for number in (1, 2, 5, 8):
        shutil.copy(SAMPLES / f"scene-{number:04}.jpg", "album")
    shutil.copy(SAMPLES / "scene-0001.jpg", "album/copy of 1.jpg")
    with Image.open(SAMPLES / "scene-0002.jpg") as image:
        image.resize((300, 300)).save("album/small.png")
    assert bt("index", "album", "--quiet").code == 0
    return tmp_path


def test_copies_and_which_to_keep(bt, album: Path) -> None:
    ran = bt("duplicates", "--json")
    assert ran.code == 0
    (group,) = ran.objects
    assert (group["kind"], group["spare_bytes"]) == ("equal", (SAMPLES / "scene-0001.jpg").stat().st_size)
    assert {image["path"] for image in group["images"]} == {"album/copy of 1.jpg", "album/scene-0001.jpg"}
    assert re.fullmatch(r"bt: 1 group among 6 images; 1 copy to spare, 0\.0 MB, in [\d.]+ s\n", ran.err), ran.err
    ran = bt("duplicates", "--near", "0.98", "--html", "twins.html")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["group", "cosine", "pixels", "kB", "image"]
    kinds = {line[-1]: line[1] for line in lines[1:] if "of" not in line}
    assert kinds["album/scene-0002.jpg"] == "keep"
    assert kinds["album/small.png"] == "near"
    page = Path("twins.html").read_text("utf-8")
    assert page.count("<li class=") == 4
    assert "group 1: keep" in page


def test_no_copies_is_an_empty_answer(bt, album: Path) -> None:
    (album / "album/copy of 1.jpg").unlink()
    bt("index", "--quiet")
    ran = bt("duplicates")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("bt: 0 groups among 5 images; 0 copies to spare")


def test_a_cosine_that_is_none(bt, album: Path) -> None:
    ran = bt("duplicates", "--near", "2")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: --near 2: a cosine above 0 and at most 1 is needed\n"


def test_unique_answers(bt, album: Path) -> None:
    plain = [hit["path"] for hit in bt("search", "a cat", "-k", "6", "--json").objects]
    ran = bt("search", "a cat", "-k", "3", "--unique", "--json")
    unique = [hit["path"] for hit in ran.objects]
    assert [hit["rank"] for hit in ran.objects] == [1, 2, 3]
    assert len({"album/copy of 1.jpg", "album/scene-0001.jpg"} & set(unique)) == 1
    assert len({"album/small.png", "album/scene-0002.jpg"} & set(unique)) == 1
    assert unique == sorted(unique, key=plain.index)
    assert "twins folded by tiny" in ran.err
    reranked = bt("search", "a cat", "-k", "6", "--unique", "--rerank", "--json")
    assert len(reranked.objects) == 4
    assert bt("search", "a cat", "--unique", "--to", "captions").code == 2


def test_labels(bt, album: Path) -> None:
    ran = bt("label", "album", "--labels", "cat,dog", "-o", "l.parquet", "--html", "l.html", "--json")
    assert ran.code == 0
    found = {record["path"]: record["label"] for record in ran.objects}
    assert found["album/scene-0001.jpg"] == found["album/scene-0002.jpg"] == "cat"
    assert found["album/scene-0005.jpg"] == found["album/scene-0008.jpg"] == "dog"
    for record in ran.objects:
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert record["probability"] == max(record["probabilities"].values())
    table = pyarrow.parquet.read_table("l.parquet")
    assert json.loads(table.schema.metadata[b"bt.labels"]) == ["cat", "dog"]
    assert dict(zip(table.column("path").to_pylist(), table.column("label").to_pylist(), strict=True)) == found
    assert Path("l.html").read_text("utf-8").count("<li class=") == 6
    ran = bt("label", "album/scene-0001.jpg", "--labels", "cat,dog,tree", "--rerank")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["label", "share", "next", "image"]
    assert ran.out.splitlines()[1].endswith("album/scene-0001.jpg")


def test_a_broken_image_is_skipped_and_counted(bt, album: Path) -> None:
    (album / "album/broken.jpg").write_bytes(b"no image")
    ran = bt("label", "album", "--labels", "cat,dog", "--json")
    assert (ran.code, len(ran.objects)) == (0, 6)
    assert "skipped album/broken.jpg: " in ran.err
    assert ", 1 skipped" in ran.err
    assert bt("label", "album", "--labels", "cat,dog", "--strict").code == 1
    ran = bt("label", "album/broken.jpg", "--labels", "cat,dog")
    assert (ran.code, ran.out) == (1, "")
