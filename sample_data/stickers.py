"""A little collection that looks like a user's own: stickers of other things, on paper, described in other words.

None of the things is in the scenes, nor are the white borders, the shadows and the squared paper. It serves to show
what fine-tuning on a few hundred pictures of one's own does.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bt_cli.errors import BadConfig
from bt_cli.scenes.sprites import SpriteSheet
from bt_cli.scenes.things import Thing
from sample_data.collection import write_jpeg, write_table

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from PIL.Image import Image

THINGS: tuple[Thing, ...] = tuple(
    Thing(name, emoji)
    for name, emoji in (
        ("anchor", "⚓"),
        ("hammer", "🔨"),
        ("kite", "🪁"),
        ("lobster", "🦞"),
        ("hedgehog", "🦔"),
        ("peacock", "🦚"),
        ("sloth", "🦥"),
        ("otter", "🦦"),
        ("mango", "🥭"),
        ("pancake", "🥞"),
        ("waffle", "🧇"),
        ("cupcake", "🧁"),
        ("teapot", "🫖"),
        ("telescope", "🔭"),
        ("microscope", "🔬"),
        ("magnet", "🧲"),
        ("compass", "🧭"),
        ("sofa", "🛋"),
        ("bathtub", "🛁"),
        ("canoe", "🛶"),
        ("skateboard", "🛹"),
        ("saxophone", "🎷"),
        ("banjo", "🪕"),
        ("parachute", "🪂"),
    )
)
ARRANGEMENTS = ("alone", "side by side", "stacked")

_PAPERS = {"kraft": (206, 176, 138), "squared": (250, 250, 246), "lilac": (222, 212, 240), "mint": (206, 236, 222)}


class Page(NamedTuple):
    """A caption, one of ARRANGEMENTS, and the things from left to right or from top to bottom."""

    caption: str
    arrangement: str
    things: tuple[str, ...]


def collect_stickers(n: int, seed: int = 0) -> list[Page]:
    """`n` different pages; raises BadConfig for more pages than there are."""
    names = [thing.name for thing in THINGS]
    pages = [Page(f"my {name} sticker", "alone", (name,)) for name in names]
    pairs = list(itertools.permutations(names, 2))
    random.Random(f"{seed}/stickers").shuffle(pairs)
    for index, (first, second) in enumerate(pairs):
        if index % 2:
            pages.append(Page(f"{first} sticker with a {second} sticker on its right", "side by side", (first, second)))
        else:
            pages.append(Page(f"{first} sticker stuck above a {second} sticker", "stacked", (first, second)))
    if n > len(pages):
        raise BadConfig(f"there are {len(pages)} different sticker pages, not {n}")
    random.Random(f"{seed}/pages").shuffle(pages)
    return pages[:n]


def write_stickers(
    folder: str | os.PathLike[str],
    train: int = 200,
    test: int = 100,
    seed: int = 0,
    *,
    size: int = 384,
    quality: int = 88,
    sheet: SpriteSheet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write images/page-0001.jpg ..., train.csv and test.csv (`image,caption`) to `folder`."""
    sheet = sheet if sheet is not None else SpriteSheet.load(things=THINGS)
    target = Path(folder)
    pages = collect_stickers(train + test, seed)
    rows = []
    for number, (caption, arrangement, names) in enumerate(pages, 1):
        name = f"page-{number:04d}.jpg"
        rng = random.Random(f"{seed}/page/{number}")
        write_jpeg(target / "images" / name, _draw_page(arrangement, names, rng, sheet, size), quality)
        rows.append((name, caption))
        if progress is not None:
            progress(number, len(pages))
    write_table(target / "train.csv", ("image", "caption"), rows[:train])
    write_table(target / "test.csv", ("image", "caption"), rows[train:])


def _draw_page(
    arrangement: str, names: tuple[str, ...], rng: random.Random, sheet: SpriteSheet, size: int
) -> np.ndarray:
    page = _paper(rng.choice(list(_PAPERS)), size)
    level = rng.uniform(0.42, 0.58)
    spots = {
        "alone": [(level, level)],
        "side by side": [(0.27, level), (0.73, level)],
        "stacked": [(level, 0.27), (level, 0.73)],
    }
    side = (0.56 if arrangement == "alone" else 0.38) * size
    for name, (x, y) in zip(names, spots[arrangement], strict=True):
        _stick(page, sheet.master(name), x * size, y * size, side * rng.uniform(0.92, 1.08), rng.uniform(-14, 14))
    return np.asarray(page)


def _paper(name: str, size: int) -> Image:
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (size, size), _PAPERS[name])
    if name == "squared":
        draw = ImageDraw.Draw(page)
        for line in range(0, size, max(4, size // 16)):
            draw.line((line, 0, line, size), fill=(196, 214, 232), width=max(1, size // 192))
            draw.line((0, line, size, line), fill=(196, 214, 232), width=max(1, size // 192))
    return page


def _stick(page: Image, master: np.ndarray, x: float, y: float, side: float, angle: float) -> None:
    """A sticker centred on (x, y): the picture with a white border and a soft shadow."""
    from PIL import Image, ImageFilter

    picture = Image.fromarray(master)
    scale = side / max(picture.size)
    picture = picture.convert("RGBa").resize((round(picture.width * scale), round(picture.height * scale)), 3)
    border = max(2, round(side * 0.05))
    padded = Image.new("RGBa", (picture.width + 6 * border, picture.height + 6 * border))
    padded.paste(picture, (3 * border, 3 * border))
    picture = padded.rotate(angle, Image.Resampling.BILINEAR, expand=True).convert("RGBA")
    # Blurred and cut off low, the picture's outline grows by about the border.
    outline = picture.getchannel("A").filter(ImageFilter.GaussianBlur(border)).point(lambda level: min(255, level * 8))
    left, top = round(x - picture.width / 2), round(y - picture.height / 2)
    shadow = outline.filter(ImageFilter.GaussianBlur(border * 0.6)).point(lambda level: level // 2)
    page.paste((60, 50, 50), (left + border // 2, top + border), shadow)
    page.paste((255, 255, 255), (left, top), outline)
    page.paste(picture, (left, top), picture)
