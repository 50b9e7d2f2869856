from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bt_cli.errors import BadConfig
from bt_cli.scenes import SpriteSheet, truth_of
from bt_cli.scenes.sampler import group_of
from bt_cli.scenes.things import pair_split
from sample_data.collection import collect, write_dataset

EVERYTHING = {
    "relation": 4.0,
    "two-positions": 2.0,
    "one-position": 2.0,
    "between": 1.0,
    "count": 1.0,
    "one": 1.0,
    "two": 1.0,
    "many": 1.0,
}


@pytest.fixture(scope="module")
def thousand() -> list:
    return collect(1000)


def test_a_thousand_held_out_scenes_each_meaning_once(thousand: list):
    assert len(thousand) == 1000
    truth = truth_of([e.scene for e in thousand], [e.meaning for e in thousand])
    assert (truth == np.eye(1000, dtype=bool)).all()
    assert len({e.caption for e in thousand}) == len({group_of(e.meaning) for e in thousand}) == 1000
    for exhibit in thousand:
        a, b = exhibit.scene.objects
        assert pair_split(a.thing, b.thing) == "test"


def test_each_pair_stands_left_right_above_and_below(thousand: list):
    for start in range(0, 1000, 4):
        quartet = thousand[start : start + 4]
        assert len({frozenset(o.thing for o in e.scene.objects) for e in quartet}) == 1
        first = quartet[0].scene.objects[0].thing
        sides = set()
        for exhibit in quartet:
            a, b = sorted(exhibit.scene.objects, key=lambda placed: placed.thing != first)
            sides.add(
                ("left" if a.x < b.x else "right")
                if abs(a.x - b.x) > abs(a.y - b.y)
                else "above"
                if a.y < b.y
                else "below"
            )
        assert sides == {"left", "right", "above", "below"}
        # What is wrong for one picture is what another shows.
        assert all(e.negative.kind == "mirror" for e in quartet)


def test_collections_of_all_families():
    found = collect(260, seed=3, mix=EVERYTHING)
    truth = truth_of([e.scene for e in found], [e.meaning for e in found])
    assert (truth == np.eye(260, dtype=bool)).all()
    shown = Counter(e.scene.family for e in found)
    for family, weight in EVERYTHING.items():
        assert shown[family] == pytest.approx(260 * weight / 13, abs=4)
    assert all(e.negative.text != e.caption for e in found)
    assert {e.negative.kind for e in found if e.scene.family == "count"} <= {"count", "colour"}


@pytest.mark.parametrize(("family", "size"), [("one-position", 4), ("two-positions", 4), ("between", 3)])
def test_rearrangements_come_together(family: str, size: int):
    found = collect(size * 5, mix={family: 1.0})
    for start in range(0, len(found), size):
        group = found[start : start + size]
        assert len({frozenset(o.thing for o in e.scene.objects) for e in group}) == 1
        assert len({e.meaning.key() for e in group}) == size
        if family == "one-position":
            assert {e.meaning.mentions[0].place for e in group} == {"left", "right", "top", "bottom"}
        if family == "between":
            assert len({e.meaning.mentions[0].thing for e in group}) == 3


def test_the_same_seed_gives_the_same_and_another_does_not():
    assert collect(40, seed=5, mix=EVERYTHING) == collect(40, seed=5, mix=EVERYTHING)
    assert [e.caption for e in collect(40, seed=5)] != [e.caption for e in collect(40, seed=6)]
    assert collect(40, seed=5) == collect(80, seed=5)[:40]


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_splits(split: str):
    for exhibit in collect(40, split):
        a, b = exhibit.scene.objects
        assert pair_split(a.thing, b.thing) == split


def test_wanted_things_come_first():
    found = collect(8, things=[("cat", "dog")])
    assert all({o.thing for o in e.scene.objects} == {"cat", "dog"} for e in found[:4])
    assert all(o.tint is None for e in found[:4] for o in e.scene.objects)
    assert all({o.thing for o in e.scene.objects} != {"cat", "dog"} for e in found[4:])


def test_more_scenes_than_captions_can_tell_apart_are_refused():
    with pytest.raises(BadConfig, match=r"found only \d+ of 2000 scenes that captions can tell apart"):
        collect(2000, mix={"one": 1.0}, colour=0.0, background=0.0)


def test_an_unknown_split_or_family_is_refused():
    with pytest.raises(BadConfig, match="no split 'dev'"):
        collect(4, "dev")
    with pytest.raises(BadConfig, match="no family of scenes 'three'"):
        collect(4, mix={"three": 1.0})


def test_the_folder_holds_pictures_and_a_table_in_order(sheet: SpriteSheet, tmp_path: Path):
    done: list[tuple[int, int]] = []
    found = write_dataset(
        tmp_path / "a", 8, size=96, sheet=sheet, progress=lambda *at: done.append(at), mix=EVERYTHING, seed=2
    )
    assert done == [(number, 8) for number in range(1, 9)]
    with (tmp_path / "a" / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "caption", "group", "negative", "negative_kind"]
    assert rows[1:] == [
        [f"scene-{number:04d}.jpg", e.caption, str(group_of(e.meaning)), e.negative.text, e.negative.kind]
        for number, e in enumerate(found, 1)
    ]
    assert sorted(path.name for path in (tmp_path / "a" / "images").iterdir()) == [row[0] for row in rows[1:]]
    for row in rows[1:]:
        with Image.open(tmp_path / "a" / "images" / row[0]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (96, 96), "RGB")


def test_written_twice_the_bytes_are_the_same(sheet: SpriteSheet, tmp_path: Path):
    for name in ("a", "b"):
        write_dataset(tmp_path / name, 4, size=96, sheet=sheet)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 5
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
