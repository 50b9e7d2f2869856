"""A described scene becomes pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from bt_cli.scenes.backgrounds import BACKGROUNDS, VARIANTS, paint_background

if TYPE_CHECKING:
    import numpy as np

    from bt_cli.scenes.scene import Scene
    from bt_cli.scenes.sprites import SpriteSheet

# Sizes of things are rounded to 1/48 of the picture: fewer sprites to scale and to keep.
SIZE_STEPS = 48
_CACHED_SIZE = 128

_small_background = lru_cache(maxsize=len(BACKGROUNDS) * VARIANTS)(paint_background)


def draw(scene: Scene, sheet: SpriteSheet, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """The scene as (size, size, 3) uint8 RGB, written into `out` where given. Later objects lie over earlier ones."""
    paint = _small_background if size <= _CACHED_SIZE else paint_background
    background = paint(scene.background, scene.variant, size)
    if out is None:
        out = background.copy()
    else:
        out[:] = background
    for placed in scene.objects:
        sprite = sheet.sprite(placed.thing, max(1, round(round(placed.size * SIZE_STEPS) * size / SIZE_STEPS)))
        height, width = sprite.shade.shape
        left, top = round(placed.x * size - width / 2), round(placed.y * size - height / 2)
        sprite.blend(out, left, top, tint=placed.tint, flipped=placed.flipped)
    return out
