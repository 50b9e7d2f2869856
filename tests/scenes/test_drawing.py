from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bt_cli.scenes.backgrounds import BACKGROUNDS, PLAIN, VARIANTS, paint_background
from bt_cli.scenes.drawing import draw
from bt_cli.scenes.scene import Placed, Scene
from bt_cli.scenes.sprites import SpriteSheet
from bt_cli.scenes.things import COLOURS
from sample_data.collection import collect


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_are_the_same_every_time_and_unlike_each_other(name: str):
    looks = [paint_background(name, variant, 48) for variant in range(VARIANTS)]
    assert all(look.shape == (48, 48, 3) and look.dtype == np.uint8 for look in looks)
    assert (looks[5] == paint_background(name, 5, 48)).all()
    assert len({look.tobytes() for look in looks}) == VARIANTS


@pytest.mark.parametrize("name", PLAIN)
def test_plain_backgrounds_have_their_colour(name: str):
    for variant in range(VARIANTS):
        mean = paint_background(name, variant, 48).mean(axis=(0, 1))
        nearest = min(PLAIN, key=lambda other: np.linalg.norm(np.array(PLAIN[other]) - mean))
        assert nearest == name


def test_a_third_of_the_looks_is_noisy():
    spread = [paint_background("grey", variant, 96).std() for variant in range(VARIANTS)]
    assert [deviation > 15 for deviation in spread] == [variant % 3 == 2 for variant in range(VARIANTS)]


def test_things_stand_where_the_scene_says(sheet: SpriteSheet):
    left, right = Placed("square", 0.25, 0.3, 0.25, "red"), Placed("square", 0.75, 0.7, 0.25, "blue")
    scene = Scene((left, right), "white", 0, "two")
    for size in (96, 384):
        picture = draw(scene, sheet, size)
        assert picture.shape == (size, size, 3)
        for placed, colour in ((left, "red"), (right, "blue")):
            near = np.abs(picture.astype(int) - COLOURS[colour]).max(axis=2) < 12
            rows, columns = np.nonzero(near)
            assert abs(rows.mean() / size - placed.y) < 0.02
            assert abs(columns.mean() / size - placed.x) < 0.02
            assert near.sum() == pytest.approx((placed.size * size) ** 2, rel=0.05)


def test_later_things_lie_on_top(sheet: SpriteSheet):
    scene = Scene((Placed("square", 0.5, 0.5, 0.5, "red"), Placed("circle", 0.5, 0.5, 0.25, "blue")), "white", 0, "two")
    assert np.abs(draw(scene, sheet, 96)[48, 48].astype(int) - COLOURS["blue"]).max() < 12


def test_drawing_into_a_given_array_is_the_same(sheet: SpriteSheet):
    scene = collect(4)[2].scene
    out = np.zeros((96, 96, 3), dtype=np.uint8)
    assert draw(scene, sheet, 96, out) is out
    assert (out == draw(scene, sheet, 96)).all()


def test_the_drawn_scene_looks_as_its_large_jpeg_scaled_down(sheet: SpriteSheet):
    """What training sees is what the image processor makes of the files."""
    for exhibit in collect(12, mix={"relation": 2, "many": 1}):
        small = draw(exhibit.scene, sheet, 96).astype(float)
        file = io.BytesIO()
        Image.fromarray(draw(exhibit.scene, sheet, 384)).save(file, "JPEG", quality=88)
        seen = np.asarray(Image.open(file).resize((96, 96), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(small - seen).mean() < 8
