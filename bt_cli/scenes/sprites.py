"""The things as small pictures: emoji rendered from the Noto Color Emoji font, and shapes, at any size and tint."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.errors import NotFound, UnreadableImage
from bt_cli.files.atomic_write import open_whole
from bt_cli.scenes.things import COLOURS, THINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bt_cli.scenes.things import Thing

FONT_PLACES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",  # Debian, Ubuntu
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",  # Arch
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",  # Fedora
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
_STRIKE = 109  # the one size of the font's bitmaps
_MASTER = 136  # longer side of the bitmaps it yields


class Sprite:
    """One thing at one size, ready for blending.

    `premultiplied` (h, w, 3) uint16 is colour times alpha, `keep` (h, w, 1) uint16 is 255 - alpha,
    `shade` (h, w) uint8 is the brightness that a tint is laid over.
    """

    __slots__ = ("keep", "premultiplied", "shade")

    def __init__(self, rgba: np.ndarray, shade: np.ndarray) -> None:
        alpha = rgba[:, :, 3:].astype(np.uint16)
        self.keep = 255 - alpha
        self.premultiplied = rgba[:, :, :3] * alpha
        self.shade = shade

    def blend(self, canvas: np.ndarray, left: int, top: int, *, tint: str | None, flipped: bool) -> None:
        """Lay the sprite over `canvas` (H, W, 3) uint8 in place; what lies outside is cut off."""
        height, width = self.shade.shape
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        if tint is None:
            colour, keep = self.premultiplied, self.keep
        else:
            keep = self.keep
            colour = _TINTS[tint][self.shade] * (255 - keep)
        if flipped:
            colour, keep = colour[:, ::-1], keep[:, ::-1]
        rows, columns = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        below = canvas[y0:y1, x0:x1]
        # (255 r + 255) >> 8 = r: exact where nothing covers, and never above 65535.
        below[:] = (below * keep[rows, columns] + colour[rows, columns] + np.uint16(255)) >> np.uint16(8)


class SpriteSheet:
    """Things by name as RGBA pictures, (h, w, 4) uint8 of their own size, and as sprites of any size asked for."""

    def __init__(self, masters: Mapping[str, np.ndarray]) -> None:
        self._masters = dict(masters)
        self._shades = {name: _shade(rgba) for name, rgba in self._masters.items()}
        self._scaled: dict[tuple[str, int], Sprite] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, things: Sequence[Thing] = THINGS) -> SpriteSheet:
        """The sheet of `things` drawn from an emoji font (.ttf), or one that :meth:`save` wrote (.npz).

        Without `path`: the file that BT_EMOJI_FONT names, else the font where Linux distributions keep it.
        Raises NotFound where there is none, UnreadableImage where the font has no usable colour bitmaps.
        """
        found = Path(path) if path is not None else find_font()
        if not found.is_file():
            raise NotFound(f"no emoji font or sprite sheet at {found}")
        if found.suffix == ".npz":
            with np.load(found) as arrays:
                missing = [thing.name for thing in things if thing.name not in arrays]
                if missing:
                    raise NotFound(
                        f"{found}: no picture of {', '.join(missing[:5])}; draw the sheet anew from the font"
                    )
                return cls({thing.name: arrays[thing.name] for thing in things})
        shapes = {thing.name: _draw_shape(thing.name) for thing in things if not thing.emoji}
        return cls(_render_font(found, [thing for thing in things if thing.emoji]) | shapes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sheet as .npz (about 2 MB), for machines without the font."""
        with open_whole(path) as file:
            np.savez_compressed(file, **self._masters)  # type: ignore[arg-type]

    def master(self, name: str) -> np.ndarray:
        """The thing as it was drawn, (h, w, 4) uint8 with straight alpha."""
        return self._masters[name]

    def sprite(self, name: str, pixels: int) -> Sprite:
        """The thing with its longer side `pixels` long."""
        key = (name, pixels)
        found = self._scaled.get(key)
        if found is None:
            rgba, shade = self._masters[name], self._shades[name]
            found = self._scaled[key] = Sprite(*_scaled(rgba, shade, pixels))
        return found


def find_font() -> Path:
    """The emoji font: BT_EMOJI_FONT, else the first of FONT_PLACES that exists; NotFound otherwise."""
    named = os.environ.get("BT_EMOJI_FONT")
    if named:
        if not Path(named).is_file():
            raise NotFound(f"BT_EMOJI_FONT names {named}, which is no file")
        return Path(named)
    for place in FONT_PLACES:
        if Path(place).is_file():
            return Path(place)
    raise NotFound(
        "drawing scenes needs the Noto Color Emoji font: install the Debian package fonts-noto-color-emoji, "
        "or set BT_EMOJI_FONT to NotoColorEmoji.ttf"
    )


def _render_font(path: Path, things: Sequence[Thing]) -> dict[str, np.ndarray]:
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.truetype(os.fspath(path), _STRIKE)
    except OSError as error:
        raise UnreadableImage(
            f"{path}: no colour bitmap font of size {_STRIKE} ({error}); set BT_EMOJI_FONT to NotoColorEmoji.ttf"
        ) from error
    masters = {}
    for thing in things:
        glyph = Image.new("RGBA", (2 * _MASTER, 2 * _MASTER))
        ImageDraw.Draw(glyph).text((20, 20), thing.emoji, font=font, embedded_color=True)
        box = glyph.getbbox()
        if box is None:
            raise UnreadableImage(f"{path}: has no picture of {thing.emoji} ({thing.name})")
        masters[thing.name] = np.asarray(glyph.crop(box))
    if not any(np.ptp(rgba[:, :, :3], axis=2).any() for rgba in masters.values()):
        raise UnreadableImage(f"{path}: a font without colour; set BT_EMOJI_FONT to NotoColorEmoji.ttf")
    return masters


def _draw_shape(name: str) -> np.ndarray:
    """A flat grey shape (tints give it its colour), drawn large and scaled down for smooth edges."""
    from PIL import Image, ImageDraw

    side = 4 * _MASTER
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    centre = side / 2

    def ring_of(count: int, *radii: float, turn: float = 0.0) -> list[tuple[float, float]]:
        points = []
        for k in range(count):
            radius, angle = radii[k % len(radii)] * centre, 2 * math.pi * k / count + turn
            points.append((centre + radius * math.sin(angle), centre - radius * math.cos(angle)))
        return points

    match name:
        case "circle":
            draw.ellipse((0, 0, side - 1, side - 1), fill=255)
        case "ring":
            draw.ellipse((0, 0, side - 1, side - 1), fill=255)
            draw.ellipse((side * 0.26, side * 0.26, side * 0.74, side * 0.74), fill=0)
        case "square":
            draw.rectangle((0, 0, side - 1, side - 1), fill=255)
        case "triangle":
            draw.polygon([(centre, 0), (side - 1, side * 0.88), (0, side * 0.88)], fill=255)
        case "star":
            draw.polygon(ring_of(10, 1.0, 0.42), fill=255)
        case "diamond":
            draw.polygon([(centre, 0), (side * 0.86, centre), (centre, side - 1), (side * 0.14, centre)], fill=255)
        case "hexagon":
            draw.polygon(ring_of(6, 1.0, turn=math.pi / 6), fill=255)
        case "cross":
            draw.rectangle((side * 0.34, 0, side * 0.66, side - 1), fill=255)
            draw.rectangle((0, side * 0.34, side - 1, side * 0.66), fill=255)
        case "heart":
            angles = [2 * math.pi * k / 400 for k in range(400)]
            x = [16 * math.sin(t) ** 3 for t in angles]
            y = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in angles]
            draw.polygon(
                [(centre * (1 + a / 16.5), centre * (0.92 - b / 16.5)) for a, b in zip(x, y, strict=True)], 255
            )
        case _:
            raise ValueError(f"no shape {name!r}")
    alpha = mask.crop(mask.getbbox()).reduce(4)
    grey = Image.new("L", alpha.size, 153)
    return np.asarray(Image.merge("RGBA", (grey, grey, grey, alpha)))


def _shade(rgba: np.ndarray) -> np.ndarray:
    """(h, w) uint8 brightness, stretched so that a tint shows well on dark and on pale things alike."""
    luma = rgba[:, :, :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    solid = luma[rgba[:, :, 3] > 128]
    low, high = np.percentile(solid, (3, 97))
    if high - low < 8:
        return np.full(luma.shape, 153, dtype=np.uint8)
    level = np.clip((luma - low) / (high - low), 0.0, 1.0)
    middle = float(np.clip(np.clip((solid - low) / (high - low), 0, 1).mean(), 0.05, 0.95))
    return np.rint(255 * level ** (math.log(0.55) / math.log(middle))).astype(np.uint8)


def _scaled(rgba: np.ndarray, shade: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    height, width = shade.shape
    scale = pixels / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def resized(image: Image.Image, like: str) -> np.ndarray:
        # Colour is weighted by alpha while it is scaled ("RGBa"), or dark fringes would appear.
        return np.asarray(image.convert(like).resize(size, 3).convert(image.mode))

    picture = resized(Image.fromarray(rgba, "RGBA"), "RGBa")
    tone = Image.fromarray(np.dstack([shade, rgba[:, :, 3]]), "LA")
    return picture, resized(tone, "La")[:, :, 0]


def _tint_table(colour: tuple[int, int, int]) -> np.ndarray:
    """(256, 3) uint16: the colour's shades from dark to bright, the colour itself at 0.6."""
    level = np.arange(256)[:, None] / 255
    base = np.array(colour, dtype=np.float64)
    brightness = base.mean()
    floor = 0.75 if brightness > 235 else 0.5
    gleam = 0.22 if brightness < 50 else 0.4
    dark = base * (floor + (1 - floor) * level / 0.6)
    bright = base + (255 - base) * gleam * (level - 0.6) / 0.4
    return np.rint(np.where(level < 0.6, dark, bright)).astype(np.uint16)


_TINTS = {name: _tint_table(colour) for name, colour in COLOURS.items()}
