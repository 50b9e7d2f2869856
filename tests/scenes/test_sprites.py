from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bt_cli.errors import NotFound, UnreadableImage
from bt_cli.scenes.sprites import FONT_PLACES, Sprite, SpriteSheet, find_font
from bt_cli.scenes.things import COLOURS, THINGS, Thing


def sprite(alpha: list[list[int]], colour: tuple[int, int, int] = (200, 100, 50)) -> Sprite:
    levels = np.array(alpha, dtype=np.uint8)
    rgba = np.dstack([np.full(levels.shape, c, dtype=np.uint8) for c in colour] + [levels])
    return Sprite(rgba, np.full(levels.shape, 153, dtype=np.uint8))


def canvas(level: int = 37) -> np.ndarray:
    return np.full((3, 4, 3), level, dtype=np.uint8)


def test_blending_covers_leaves_and_mixes():
    picture = canvas()
    sprite([[255, 0, 128]]).blend(picture, 1, 1, tint=None, flipped=False)
    assert picture[1].tolist() == [
        [37, 37, 37],
        [200, 100, 50],
        [37, 37, 37],
        # (37 * 127 + c * 128 + 255) // 256
        [119, 69, 44],
    ]
    assert (picture[[0, 2]] == 37).all()


def test_where_nothing_covers_nothing_changes():
    for level in range(256):
        picture = canvas(level)
        sprite([[0, 0], [0, 0]]).blend(picture, 0, 0, tint=None, flipped=False)
        assert (picture == level).all()


def test_a_flipped_sprite_is_its_mirror():
    picture = canvas()
    sprite([[255, 0, 0]]).blend(picture, 0, 0, tint=None, flipped=True)
    assert picture[0, :, 0].tolist() == [37, 37, 200, 37]


@pytest.mark.parametrize(
    ("left", "top", "covered"),
    [(-1, 0, (0, 0)), (3, 2, (2, 3)), (-2, 0, None), (4, 0, None), (0, -2, None), (0, 3, None)],
)
def test_what_lies_outside_is_cut_off(left: int, top: int, covered: tuple[int, int] | None):
    picture = canvas()
    sprite([[255, 255], [255, 255]]).blend(picture, left, top, tint=None, flipped=False)
    assert (picture[covered] == (200, 100, 50)).all() if covered else (picture == 37).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_flat_sprite_takes_the_tint_as_it_is(colour: str):
    picture = canvas()
    sprite([[255]]).blend(picture, 0, 0, tint=colour, flipped=False)
    assert np.abs(picture[0, 0].astype(int) - COLOURS[colour]).max() <= 1


def test_tints_of_real_things_are_told_apart(sheet: SpriteSheet):
    """The mean colour of a tinted thing is nearest to its tint, but for a few with much gleam (a swan) or dark."""
    palette = np.array(list(COLOURS.values()), dtype=float)
    astray = []
    for thing in THINGS:
        found = sheet.sprite(thing.name, 40)
        height, width = found.shade.shape
        for index, colour in enumerate(COLOURS):
            picture = np.zeros((40, 40, 3), dtype=np.uint8)
            found.blend(picture, 0, 0, tint=colour, flipped=False)
            mean = picture[:height, :width][found.keep[:, :, 0] == 0].mean(axis=0)
            if np.linalg.norm(palette - mean, axis=1).argmin() != index:
                astray.append((thing.name, colour))
    assert len(astray) < 0.02 * len(THINGS) * len(COLOURS), astray


def test_the_longer_side_is_as_long_as_asked(sheet: SpriteSheet):
    for thing in THINGS:
        assert max(sheet.sprite(thing.name, 43).shade.shape) == 43
        assert sheet.sprite(thing.name, 43) is sheet.sprite(thing.name, 43)


def test_scaling_keeps_edges_free_of_fringes(sheet: SpriteSheet):
    # The heart is of one grey, 153, and stays so up to its faintest edge, where 8 bits are coarse.
    heart = sheet.sprite("heart", 31)
    alpha = 255 - heart.keep[:, :, 0].astype(float)
    edge = (alpha > 40) & (alpha < 250)
    assert edge.sum() > 20
    assert np.abs(heart.premultiplied[:, :, 0][edge] / alpha[edge] - 153).max() < 6


def test_saved_and_loaded_is_the_same(sheet: SpriteSheet, tmp_path: Path):
    sheet.save(tmp_path / "sprites.npz")
    again = SpriteSheet.load(tmp_path / "sprites.npz")
    for thing in THINGS:
        assert (again.master(thing.name) == sheet.master(thing.name)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["sprites.npz"]
    assert (tmp_path / "sprites.npz").stat().st_size < 4_000_000


def test_a_saved_sheet_that_lacks_things_is_refused(sheet: SpriteSheet, tmp_path: Path):
    SpriteSheet({"cat": sheet.master("cat")}).save(tmp_path / "cats.npz")
    with pytest.raises(NotFound, match=r"cats\.npz: no picture of dog, horse, cow, pig, sheep; draw the sheet anew"):
        SpriteSheet.load(tmp_path / "cats.npz")


def test_without_a_font_the_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bt_cli.scenes.sprites.FONT_PLACES", ("/nowhere/font.ttf",))
    with pytest.raises(NotFound, match=r"Debian package fonts-noto-color-emoji, or set BT_EMOJI_FONT"):
        SpriteSheet.load()


def test_the_font_named_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    mine = tmp_path / "mine.ttf"
    mine.touch()
    monkeypatch.setenv("BT_EMOJI_FONT", str(mine))
    assert find_font() == mine
    with pytest.raises(UnreadableImage, match=r"mine\.ttf: no colour bitmap font of size 109"):
        SpriteSheet.load()
    monkeypatch.setenv("BT_EMOJI_FONT", str(tmp_path / "other.ttf"))
    with pytest.raises(NotFound, match=r"BT_EMOJI_FONT names .*other\.ttf, which is no file"):
        find_font()


def test_a_path_that_is_no_file_is_named(tmp_path: Path):
    with pytest.raises(NotFound, match="no emoji font or sprite sheet at"):
        SpriteSheet.load(tmp_path / "none.npz")


def test_a_font_without_colour_or_pictures_is_refused():
    from PIL import features

    if not features.check("freetype2"):
        pytest.skip("Pillow without FreeType")
    black = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    if not black.is_file():
        pytest.skip("no plain font to try")
    with pytest.raises(UnreadableImage, match=r"DejaVuSans\.ttf: a font without colour"):
        SpriteSheet.load(black)


def test_a_picture_that_the_font_lacks_is_named(sheet: SpriteSheet):
    del sheet  # skips where there is no font
    path = next(place for place in FONT_PLACES if Path(place).is_file())
    with pytest.raises(UnreadableImage, match=r"has no picture of .* \(nothing\)"):
        SpriteSheet.load(path, things=[Thing("nothing", " ")])
