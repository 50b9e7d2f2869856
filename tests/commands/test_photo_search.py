"""`bt search --after --before --near --camera` over photographs, with the bundled checkpoint: what is kept, what is
said of those that say nothing, and what the answers tell."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet
import pytest
from photographs import photograph

import bt_cli
from bt_cli.errors import Misuse

VIENNA, SYDNEY = (48.2082, 16.3738), (-33.8688, 151.2093)


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bt) -> Path:
    """Six photographs, one of them in a tar file, one of which nothing is known; captions of two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", "tiny")
    monkeypatch.setenv("BT_DTYPE", "float32")
    for number, (name, facts) in enumerate(
        {
            "spring": {"taken": "2024:04:01 10:00:00", "make": "Canon", "model": "Canon EOS 5D", "place": VIENNA},
            "june": {"taken": "2024:06:03 14:05:09", "offset": "+02:00", "make": "Apple", "model": "iPhone 12"},
            "autumn": {"taken": "2024:09:15 00:00:00", "make": "Apple", "model": "iPhone 12", "place": SYDNEY},
            "place": {"place": VIENNA},
            "plain": {},
            "packed": {"taken": "2023:12:31 23:59:59", "model": "X100V"},
        }.items()
    ):
        photograph(tmp_path / f"album/{name}.jpg", colour=(40 * number, 250 - 40 * number, 90), **facts)
    with tarfile.open("album/s.tar", "w") as shard:
        shard.add("album/packed.jpg", "packed.jpg")
    Path("album/packed.jpg").unlink()
    Path("c.csv").write_text("image,caption\njune.jpg,one\nplain.jpg,two\n")
    ran = bt("index", "album", "--captions", "c.csv", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    return tmp_path


def names(ran) -> set[str]:
    assert ran.code == 0, ran.err
    return {Path(hit["path"]).stem for hit in ran.objects}


@pytest.mark.parametrize(
    ("options", "found", "said"),
    [
        (["--after", "2024-06", "--before", "2024-09-15"], {"june"}, "2 without date left out"),
        (["--before", "2024"], {"packed"}, "2 without date left out"),
        (["--after", "2024-09-15T00:00"], {"autumn"}, "2 without date left out"),
        (["--after", "2024-06-03T12:05:09Z", "--before", "2024-06-03T12:05:10Z"], {"june"}, "2 without date left out"),
        (["--near", "48.2,16.37,20km"], {"spring", "place"}, "3 without place left out"),
        (["--near", "-33.9,151.2,10mi"], {"autumn"}, "3 without place left out"),
        (["--camera", "iphone"], {"june", "autumn"}, "2 without camera left out"),
        (["--camera", "x*", "--camera", "EOS"], {"packed", "spring"}, "2 without camera left out"),
        (["--camera", "apple", "--near", "48,16,30000km"], {"autumn"}, "4 without place or camera left out"),
        (["--camera", "iphone", "--glob", "*e.jpg"], {"june"}, "1 without camera left out"),
        (["--camera", "iphone", "--unique"], {"june", "autumn"}, "2 without camera left out"),
        (["--camera", "iphone", "--rerank"], {"june", "autumn"}, "2 without camera left out"),
        (["--camera", "iphone", "--image", "album/plain.jpg"], {"june", "autumn"}, "2 without camera left out"),
    ],
)
def test_what_is_kept_and_what_is_left_out(bt, album: Path, options: list[str], found: set[str], said: str) -> None:
    question = [] if "--image" in options else ["a red car"]
    ran = bt("search", *question, "--json", *options)
    assert names(ran) == found
    assert f"bt: {len(found)} of 6 images ({said})" in ran.err
    plain = bt("search", *question, *options)
    assert plain.code == 0
    assert len(plain.out.splitlines()) == 1 + len(found)


def test_answers_say_how_they_were_taken(bt, album: Path) -> None:
    hits = {Path(hit["path"]).stem: hit for hit in bt("search", "a cat", "--json").objects}
    keys = ["rank", "id", "path", "score", "itc", "itm_logit", "itm_prob"]
    assert list(hits["spring"]) == [*keys, "taken", "camera", "latitude", "longitude"]
    assert (hits["spring"]["taken"], hits["spring"]["camera"]) == ("2024-04-01T10:00:00", "Canon EOS 5D")
    assert (hits["spring"]["latitude"], hits["spring"]["longitude"]) == pytest.approx(VIENNA, abs=1e-6)
    assert hits["june"] == {
        **{key: hits["june"][key] for key in keys},
        "taken": "2024-06-03T14:05:09+02:00",
        "camera": "Apple iPhone 12",
    }
    assert list(hits["plain"]) == keys
    captions = bt("search", "one", "--to", "captions", "--json", "--after", "2024").objects
    assert [(hit["caption"], hit["taken"]) for hit in captions] == [("one", "2024-06-03T14:05:09+02:00")]


def test_many_queries(bt, album: Path) -> None:
    Path("q.txt").write_text("a cat\na dog\n")
    ran = bt("search", "--queries", "q.txt", "--camera", "iphone", "--json")
    assert [(hit["query"], hit["camera"]) for hit in ran.objects] == [
        (query, "Apple iPhone 12") for query in ("1", "1", "2", "2")
    ]
    assert re.fullmatch(r"bt: 4 answers to 2 queries from 6 images \(2 without camera left out\) in .*\n", ran.err), (
        ran.err
    )
    run = bt("search", "--queries", "q.txt", "--near", "0,0,1km")
    assert (run.code, run.out) == (0, "")


def test_no_image_fits(bt, album: Path) -> None:
    ran = bt("search", "a cat", "--after", "2030", "--camera", "canon", "--glob", "*.jpg")
    assert (ran.code, ran.out) == (0, "")
    assert "bt: no image fits --after 2030 --camera canon --glob *.jpg\n" in ran.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--after", "soon"], "--after soon: no date; give a year, a month (2024-06)"),
        (["--after", "2025", "--before", "2024"], "--before 2024 is not later than --after 2025"),
        (["--near", "48.2,16.37"], "--near 48.2,16.37: no place; give latitude, longitude"),
        (["--camera", ""], "--camera is empty; give a part of its name"),
    ],
)
def test_misuse(bt, album: Path, options: list[str], reason: str) -> None:
    ran = bt("search", "a cat", *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"bt: {reason}")
    assert ran.err.count("\n") == 1


def test_from_python(album: Path) -> None:
    with bt_cli.Index.open(dtype="float32") as index:
        hits = index.search("a cat", after="2024-06", before="2024-09", facts=True)
        assert [(Path(hit.path or "").name, hit.facts.taken_text) for hit in hits if hit.facts] == [
            ("june.jpg", "2024-06-03T14:05:09+02:00")
        ]
        assert {hit.path for hit in index.search("a cat", near="48.2,16.37,5km")} == {
            "album/place.jpg",
            "album/spring.jpg",
        }
        again = index.search("a cat", facts=True)
        assert sum(hit.facts is not None and hit.facts.camera == "Apple iPhone 12" for hit in again) == 2
        assert index.search("a cat", k=1)[0].facts is None
        with pytest.raises(Misuse, match="--near here: no place"):
            index.search("a cat", near="here")


def test_several_indexes_are_filtered_as_one(bt, album: Path) -> None:
    photograph(album / "other/o.jpg", taken="2024:07:01 00:00:00", model="iPhone 3")
    assert bt("index", "other", "--index", "two", "--quiet").code == 0
    ran = bt("search", "a cat", "--index", ".bt", "--index", "two", "--camera", "iphone", "--json")
    assert {hit["camera"] for hit in ran.objects} == {"Apple iPhone 12", "iPhone 3"}
    assert "3 of 7 images (2 without camera left out)" in ran.err


def test_rows_that_went_and_pieces_that_came_are_counted_right(bt, album: Path) -> None:
    Path("album/june.jpg").unlink()
    photograph(album / "album/zoo.jpg", taken="2024:06:09 00:00:00", colour=(1, 1, 1))
    assert bt("index", "--quiet").code == 0
    assert names(bt("search", "a cat", "--after", "2024-06", "--before", "2024-07", "--json")) == {"zoo"}


def test_a_table_of_its_own_has_the_columns(bt, album: Path) -> None:
    assert bt("encode", "images", "album", "-o", "t.parquet", "--quiet").code == 0
    rows = pyarrow.parquet.read_table("t.parquet").to_pylist()
    found = {Path(row["path"]).name: (str(row["taken"]), row["taken_offset"], row["camera"]) for row in rows}
    assert found["june.jpg"] == ("2024-06-03 14:05:09", 120, "Apple iPhone 12")
    assert found["packed.jpg"] == ("2023-12-31 23:59:59", None, "X100V")
    assert found["plain.jpg"] == ("None", None, None)


def test_a_damaged_table_is_mended_with_them(bt, album: Path) -> None:
    whole = Path(".bt/images.parquet").read_bytes()
    for place in range(0, len(whole) - 40, len(whole) // 9):
        table = Path(".bt/images.parquet").resolve()
        table.write_bytes(whole[:place] + bytes(255 - byte for byte in whole[place : place + 40]) + whole[place + 40 :])
        ran = bt("index", "--json")
        assert (ran.code, ran.objects[0]["encoded"]) == (0, 0), ran.err
        assert Path(".bt/images.parquet").read_bytes() == whole


def test_no_torch_is_loaded(album: Path) -> None:
    program = (
        "import sys; from bt_cli.commands.app import main;"
        "code = main(['search', 'a cat', '--after', '2024', '--near', '48,16,900km', '--camera', 'canon', '--json']);"
        "sys.exit(code or 7 * bool({'torch', 'pandas', 'pyarrow.dataset', 'pyarrow.compute'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.count("\n")) == (0, 1), ran.stderr
