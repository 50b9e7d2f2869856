from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bt_cli.errors import BadConfig
from bt_cli.scenes.things import THINGS
from sample_data import stickers
from sample_data.stickers import collect_stickers, write_stickers


def test_no_scene_shows_a_sticker():
    assert not {name for thing in THINGS for name in thing.names} & {thing.name for thing in stickers.THINGS}
    assert not {thing.emoji for thing in THINGS} & {thing.emoji for thing in stickers.THINGS}


def test_pages_differ_and_say_what_they_show():
    pages = collect_stickers(300)
    assert len({page.caption for page in pages}) == 300
    assert set(Counter(page.arrangement for page in pages)) == set(stickers.ARRANGEMENTS)
    for page in pages:
        places = [page.caption.index(f"{thing} sticker") for thing in page.things]
        assert places == sorted(places), "the caption names them from left to right and from top to bottom"
        assert len(page.things) == (1 if page.arrangement == "alone" else 2)


def test_the_training_pages_show_every_thing():
    shown = Counter(thing for page in collect_stickers(300)[:200] for thing in page.things)
    assert set(shown) == {thing.name for thing in stickers.THINGS}
    assert min(shown.values()) >= 5


def test_more_pages_than_there_are_is_refused():
    with pytest.raises(BadConfig, match="there are 576 different sticker pages, not 577"):
        collect_stickers(577)


def test_the_folder_holds_two_tables(sheet: object, tmp_path: Path):
    del sheet  # skips where there is no font
    for name in ("a", "b"):
        write_stickers(tmp_path / name, 3, 2, size=128)
    rows = []
    for table, length in (("train.csv", 3), ("test.csv", 2)):
        with (tmp_path / "a" / table).open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        assert len(found) == length
        rows += found
    assert rows == [
        {"image": f"page-{number:04d}.jpg", "caption": page.caption}
        for number, page in enumerate(collect_stickers(5), 1)
    ]
    for row in rows:
        path = tmp_path / "a" / "images" / row["image"]
        assert path.read_bytes() == (tmp_path / "b" / "images" / row["image"]).read_bytes()
        with Image.open(path) as image:
            assert image.size == (128, 128)
            assert np.asarray(image).std() > 15, "an empty page"
