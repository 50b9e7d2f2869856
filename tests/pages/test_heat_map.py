"""Heat maps: the strip's panels, and what part of an image they show."""

from __future__ import annotations

import numpy as np
from PIL import Image

from bt_cli.pages.heat_map import GAP, LABEL, SIDE, overlaid, strip, what_was_seen, write_heat_map
from bt_cli.preprocessing.image_processor import ImageProcessor


def test_the_hottest_patch_is_the_brightest_place():
    seen = Image.new("RGB", (80, 80), (60, 60, 60))
    shares = np.zeros((4, 4), np.float32)
    shares[3, 0] = 0.5
    shown = np.asarray(overlaid(seen, shares)).astype(int)
    assert shown[70, 10, 0] - shown[70, 10, 2] > 80  # warm there
    assert abs(shown[10, 70, 0] - shown[10, 70, 2]) < 3  # grey far from it


def test_a_map_of_nothing_colours_nothing():
    shown = np.asarray(overlaid(Image.new("RGB", (8, 8), (9, 9, 9)), np.zeros((2, 2), np.float32)))
    assert shown.std() == 0


def test_panels_stand_in_rows_of_like_length():
    seen = Image.new("RGB", (100, 50))
    sheet = strip(seen, [(str(number), np.ones((2, 2), np.float32)) for number in range(7)])
    assert sheet.size == (4 * (100 + GAP) + GAP, 2 * (50 + LABEL + GAP) + GAP)


def test_only_what_the_network_saw_is_shown():
    processor = ImageProcessor.from_dict({"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}})
    wide = Image.new("RGB", (96, 64), (255, 0, 0))
    wide.paste((0, 255, 0), (16, 0, 80, 64))
    seen = np.asarray(what_was_seen(wide, processor))
    assert seen.shape == (SIDE, SIDE, 3)
    assert (seen[:, 10:-10, 1] > 200).all()


def test_any_word_can_stand_below_its_panel(tmp_path):
    processor = ImageProcessor.from_dict({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}})
    place = tmp_path / "out.png"
    words = ["x" * 200, "a\nb", "猫", ""]
    write_heat_map(place, Image.new("RGB", (32, 32)), processor, words, np.ones((4, 2, 2), np.float32))
    assert Image.open(place).format == "PNG"


def test_words_that_the_font_lacks_are_told_apart():
    seen = Image.new("RGB", (200, 50))
    shares = np.ones((2, 2), np.float32)
    drawn = {word: strip(seen, [(word, shares)]).tobytes() for word in ("猫", "犬", "é", "e", "\\u732b")}
    assert drawn["猫"] != drawn["犬"]
    assert drawn["猫"] == drawn["\\u732b"]
    assert drawn["é"] != drawn["e"]


def test_a_word_stays_within_its_panel():
    seen = Image.new("RGB", (100, 50))
    shares = np.ones((2, 2), np.float32)
    alone = np.asarray(strip(seen, [("W" * 40, shares), ("", shares)]))
    between = alone[GAP + 50 : GAP + 50 + 26, GAP + 101 : GAP + 100 + GAP]  # beside the word, before the next panel
    assert (between == 255).all()
