"""The folder that is shipped is the one that its script draws."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from bt_cli.scenes import SpriteSheet
from bt_cli.scenes.drawing import draw
from bt_cli.scenes.sampler import group_of
from sample_data.collection import collect

SAMPLE_DATA = Path(__file__).resolve().parents[2] / "sample_data"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("sample_data.draw")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (SAMPLE_DATA / "captions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_what_the_script_thinks_up(script: ModuleType, rows: list[dict[str, str]]):
    exhibits = collect(script.SAMPLE_SCENES, "test", mix=script.SAMPLE_MIX, things=script.SAMPLE_THINGS)
    assert rows == [
        {
            "image": f"scene-{number:04d}.jpg",
            "caption": e.caption,
            "group": str(group_of(e.meaning)),
            "negative": e.negative.text,
            "negative_kind": e.negative.kind,
        }
        for number, e in enumerate(exhibits, 1)
    ]


def test_every_picture_is_there_and_no_other(rows: list[dict[str, str]]):
    files = sorted((SAMPLE_DATA / "images").iterdir())
    assert [path.name for path in files] == [row["image"] for row in rows]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    for path in files:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (384, 384))


def test_the_pictures_are_what_the_script_draws(script: ModuleType, sheet: SpriteSheet):
    exhibits = collect(script.SAMPLE_SCENES, "test", mix=script.SAMPLE_MIX, things=script.SAMPLE_THINGS)
    for number in range(1, 321, 40):
        with Image.open(SAMPLE_DATA / "images" / f"scene-{number:04d}.jpg") as image:
            shipped = np.asarray(image).astype(float)
        # JPEG, and the font and Pillow of another day, move pixels a little; another scene would be far off.
        assert np.abs(shipped - draw(exhibits[number - 1].scene, sheet, 384)).mean() < 8


def test_the_demonstrated_search_has_one_answer(rows: list[dict[str, str]]):
    assert [row["caption"] for row in rows].count("a cat to the left of a dog") == 1


def test_the_script_draws_scenes_and_stickers(script: ModuleType, sheet: SpriteSheet, tmp_path: Path):
    del sheet  # skips where there is no font
    assert script.main(["scenes", str(tmp_path / "held-out"), "-n", "4", "--seed", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "held-out").iterdir()) == ["captions.csv", "images"]
    assert script.main(["stickers", str(tmp_path / "mine"), "--train", "2", "--test", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["images", "test.csv", "train.csv"]


def test_without_the_font_the_script_says_so_in_one_line(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("BT_EMOJI_FONT", str(tmp_path / "gone.ttf"))
    assert script.main(["scenes", str(tmp_path / "held-out"), "-n", "4"]) == 1
    assert capsys.readouterr() == ("", f"draw.py: BT_EMOJI_FONT names {tmp_path / 'gone.ttf'}, which is no file\n")
