"""Captions in tar shards and Parquet files: each belongs to the image there, whatever the file holds beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_containers import IMAGE, write_members, write_rows, write_shard

from bt_cli.captions.captions import CaptionSet, image_places, read_captions
from bt_cli.errors import Misuse, NotFound, UnreadableCaptions
from bt_cli.sources.member import read_member

SAMPLES = {
    f"{number:09d}": (f"image {number}".encode(), [f"caption {number}", f"text {number}"]) for number in range(4)
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pairs(captions: CaptionSet) -> list[tuple[str | None, str]]:
    return [(item.image, item.text) for item in captions.items]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz", "s.parquet"])
def test_each_caption_belongs_to_the_image_beside_it(name: str) -> None:
    (write_rows if name.endswith("parquet") else write_shard)(Path(name), SAMPLES)
    found = read_captions(name)
    places = [f"{name}/{number:09d}{'' if name.endswith('parquet') else '.png'}" for number in range(4)]
    assert pairs(found) == [
        (place, text) for place, (_, texts) in zip(places, SAMPLES.values(), strict=True) for text in texts
    ]
    assert [read_member(place) for place in places] == [image for image, _ in SAMPLES.values()]
    assert found.format == ("parquet" if name.endswith("parquet") else "shard")
    assert found.places == (name,)
    assert image_places(name) == [name]
    assert found.place(found.items[3]) == (
        "s.parquet: row 2" if name.endswith("parquet") else f"{name}/000000001.txt:2"
    )
    assert pairs(read_captions(name, images=name)) == pairs(found)


def test_objects_beside_images_count_where_no_text_does() -> None:
    members = [
        ("a.jpg", b"a"),
        ("a.json", json.dumps({"caption": "from json", "url": "https://example.org"}).encode()),
        ("b.jpg", b"b"),
        ("b.json", json.dumps({"caption": "not this"}).encode()),
        ("b.txt", b"from text"),
        ("c.jpg", b"c"),
        ("c.json", b'{"captions": ["one", "two"]}'),
        ("d.jpg", b"d"),
        ("d.json", b'{"description": "a download\'s own word", "title": "d.jpg"}'),
        ("e.jpg", b"e"),
        ("e.json", b"no json"),
        ("f.json", b'{"caption": "of no image"}'),
        ("g.jpg", b"g"),
        ("g.json", b'{"caption": 7}'),
        ("h.jpg", b"h"),
        ("h.txt", b"two\nlines"),
        ("h.json", b'{"caption": "two\\nlines"}'),
        ("h.cls", b"3"),
    ]
    wanted = [
        ("a.jpg", "from json"),
        ("b.jpg", "from text"),
        ("c.jpg", "one"),
        ("c.jpg", "two"),
        ("h.jpg", "two\nlines"),
    ]
    said: list[UnreadableCaptions] = []
    assert pairs(read_captions(write_members(Path("s.tar"), members), on_skip=said.append)) == [
        (f"s.tar/{name}", text) for name, text in wanted
    ]
    assert list(map(str, said)) == ["s.tar/g.json: caption is no text: 7"]
    os.mkdir("folder")
    for name, content in members:
        Path("folder", name).write_bytes(content)
    assert pairs(read_captions("folder", on_skip=said.append)) == wanted
    assert str(said[-1]) == "folder/g.json: caption is no text: 7"


def test_second_members_of_a_name_keep_their_own_captions() -> None:
    members = [
        ("a.jpg", b"1"),
        ("a.txt", b"one"),
        ("a.jpg", b"2"),
        ("a.txt", b"two"),
        ("../a.jpg", b"3"),
        ("../a.txt", b"three"),
    ]
    assert pairs(read_captions(write_members(Path("s.tar"), members))) == [
        ("s.tar/%2E%2E/a.jpg", "three"),
        ("s.tar/a.jpg", "one"),
        ("s.tar/a.jpg#2", "two"),
    ]


def test_texts_without_an_image_and_damage_are_told() -> None:
    members = [
        ("a.jpg", b"a"),
        ("a.txt", b"fine"),
        ("lost.txt", b"lost"),
        ("b.jpg", b"b"),
        ("b.txt", b"x" * (1 << 20) + b"y"),
    ]
    shard = write_members(Path("s.tar"), [*members, ("c.jpg", b"c"), ("c.txt", b"cut")])
    with open(shard, "rb+") as file:
        file.truncate(shard.read_bytes().index(b"c.txt") + 512)
    said: list[str] = []
    found = read_captions(shard, on_skip=lambda error: said.append(str(error)))
    assert pairs(found) == [("s.tar/a.jpg", "fine")]
    assert said == [
        "s.tar: shard ends within c.txt",
        "s.tar/b.txt: larger than 1 MiB; a text beside an image holds its captions, one a line",
        "s.tar/lost.txt: no image of this name beside it",
    ]
    assert found.skipped == 3
    with pytest.raises(UnreadableCaptions, match=r"s\.tar: shard ends within c\.txt"):
        read_captions(shard)


def test_several_shards_as_one_word_or_more() -> None:
    os.mkdir("more")
    for number, name in enumerate(["0.tar", "1.tar", "more/0.tar"]):
        write_shard(Path(name), {key: (b"i", [f"{number} {key[-1]}"]) for key in list(SAMPLES)[:2]})
    found = read_captions(["{0..1}.tar", "more/*.tar"])
    assert [item.image for item in found.items] == [
        f"{shard}/00000000{key}.png" for shard in ("0.tar", "1.tar", "more/0.tar") for key in range(2)
    ]
    assert found.path == "0.tar and 2 more"
    assert found.places == ("0.tar", "1.tar", "more/0.tar")
    assert len({item.image_id for item in found.items}) == 6
    with pytest.raises(NotFound, match="no file fits it as a pattern"):
        read_captions("none-*.tar")
    Path("c.csv").write_text("image,caption\na.jpg,x\n")
    with pytest.raises(Misuse, match=r"c\.csv: several are read together where each is a tar, Parquet or Arrow"):
        read_captions(["0.tar", "c.csv"])
    with pytest.raises(Misuse, match=r"0\.tar: holds images; --format says what a caption file holds"):
        read_captions("0.tar", format="csv")


def test_a_folder_of_containers() -> None:
    os.makedirs("all/test")
    write_shard(Path("all/test/0.tar"), {"a": (b"i", ["one"])})
    write_rows(Path("all/train-00000-of-00001.parquet"), {"a": (b"i", ["two"])})
    found = read_captions("all")
    assert (found.format, found.places) == ("containers", ("all",))
    assert [(item.image, item.text, item.split) for item in found.items] == [
        ("test/0.tar/a.png", "one", "test"),
        ("train-00000-of-00001.parquet/000000000", "two", "train"),
    ]
    assert [found.place(item) for item in found.items] == [
        "all/test/0.tar/a.txt:1",
        "all/train-00000-of-00001.parquet: row 1",
    ]
    assert pairs(read_captions("all", split="train", images="all")) == [
        ("all/train-00000-of-00001.parquet/000000000", "two")
    ]
    Path("all/x.png").write_bytes(b"i")
    Path("all/x.txt").write_text("beside")
    assert [item.text for item in read_captions("all").items] == ["beside", "one", "two"]


def test_columns_beside_images() -> None:
    images = [{"bytes": b"one", "path": "a.jpg"}, None, {"bytes": b"three", "path": "a.jpg"}]
    columns = {
        "image": pa.array(images, IMAGE),
        "filename": ["f"] * 3,
        "caption_0": ["x", "y", "z"],
        "caption_1": ["q"] * 3,
    }
    pq.write_table(pa.table(columns), "p.parquet")
    found = read_captions("p.parquet")
    assert pairs(found)[:3] == [
        ("p.parquet/000000000", "x"),
        ("p.parquet/000000000", "q"),
        ("p.parquet/000000001", "y"),
    ]
    said: list[NotFound] = []
    assert len(read_captions("p.parquet", images="p.parquet", on_missing=said.append)) == 4
    assert [str(error) for error in said] == ["p.parquet: row 2: its image p.parquet/000000001 is not below p.parquet"]
    pq.write_table(pa.table({"image": pa.array(images, IMAGE), "label": [1, 2, 3]}), "p.parquet")
    with pytest.raises(UnreadableCaptions, match=r"p\.parquet: no column for captions .* among image, label"):
        read_captions("p.parquet")


def test_a_parquet_table_that_only_names_its_images_is_a_caption_file() -> None:
    images = [{"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    pq.write_table(pa.table({"image": pa.array(images, IMAGE), "text": ["x", "y"]}), "p.parquet")
    assert pairs(read_captions("p.parquet")) == [("a.jpg", "x"), ("b.jpg", "y")]
    assert image_places("p.parquet") == ["."]
