"""What lies behind the things: plain colours, smooth or noisy, and a few landscapes."""

from __future__ import annotations

import math
import zlib

import numpy as np

PLAIN: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 242),
    "grey": (158, 160, 164),
    "black": (28, 28, 34),
    "blue": (120, 170, 236),
    "green": (136, 204, 136),
    "yellow": (246, 230, 136),
    "pink": (250, 190, 212),
    "purple": (178, 150, 218),
    "orange": (250, 186, 118),
}
LANDSCAPES = ("beach", "meadow", "snow", "night", "desert", "sea", "mountains", "sunset")
BACKGROUNDS = (*PLAIN, *LANDSCAPES)
VARIANTS = 12

# Tints that would drown in front of a background.
DROWNED: dict[str, frozenset[str]] = {
    **{name: frozenset({name}) for name in PLAIN},
    "beach": frozenset({"yellow", "blue"}),
    "meadow": frozenset({"green", "blue"}),
    "snow": frozenset({"white"}),
    "night": frozenset({"black"}),
    "desert": frozenset({"yellow", "orange"}),
    "sea": frozenset({"blue"}),
    "mountains": frozenset({"blue"}),
    "sunset": frozenset({"orange", "pink"}),
}


def paint_background(name: str, variant: int, size: int) -> np.ndarray:
    """The background as (size, size, 3) uint8; the same look at every size for one `variant` (0 to VARIANTS - 1)."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), variant])
    canvas = _plain(PLAIN[name], rng, variant, size) if name in PLAIN else _landscape(name, rng, size)
    if variant % 3 == 2:
        canvas += _noise(rng, size) * (26.0 if name in PLAIN else 12.0)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _plain(colour: tuple[int, int, int], rng: np.random.Generator, variant: int, size: int) -> np.ndarray:
    base = np.array(colour, dtype=np.float64) + rng.uniform(-7, 7, 3)
    canvas = np.broadcast_to(base, (size, size, 3)).copy()
    if variant % 3 == 1:
        angle = rng.uniform(0, 2 * math.pi)
        along = np.linspace(-1, 1, size)
        canvas += 16 * (math.cos(angle) * along[None, :, None] + math.sin(angle) * along[:, None, None])
    return canvas


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) noise of unit deviation, grained alike at all sizes."""
    from PIL import Image

    grain = rng.normal(size=(64, 64, 3)).astype(np.float32)
    grain = 0.5 * grain + 0.8 * grain.mean(axis=2, keepdims=True)
    planes = (Image.fromarray(grain[:, :, channel]) for channel in range(3))
    return np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BICUBIC)) for plane in planes], axis=2)


def _sky(top: tuple[int, int, int], bottom: tuple[int, int, int], size: int) -> np.ndarray:
    ramp = np.linspace(0, 1, size)[:, None, None]
    canvas = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    return np.broadcast_to(canvas, (size, size, 3)).copy()


def _ground(canvas: np.ndarray, edge: np.ndarray, near: tuple[int, int, int], far: tuple[int, int, int]) -> None:
    """Fill below `edge` (fraction from the top, for each column) from colour `far` to `near`."""
    size = len(canvas)
    y = (np.arange(size)[:, None] + 0.5) / size
    below = y > edge[None, :]
    depth = np.clip((y - edge[None, :]) / (1 - edge.min()), 0, 1)[:, :, None]
    colour = np.array(far) * (1 - depth) + np.array(near) * depth
    canvas[below] = colour[below]


def _hills(rng: np.random.Generator, size: int, height: float, swing: float, waves: float) -> np.ndarray:
    x = np.linspace(0, 1, size)
    edge = np.full(size, height)
    for k in (1, 2, 3):
        edge += swing / k * np.sin(2 * math.pi * (waves * k * x + rng.uniform()))
    return edge


def _peaks(rng: np.random.Generator, size: int) -> np.ndarray:
    corners = np.linspace(-0.1, 1.1, 8)
    heights = np.where(np.arange(8) % 2 == 0, 0.62, 0.3) + rng.uniform(-0.07, 0.07, 8)
    return np.interp(np.linspace(0, 1, size), corners + rng.uniform(-0.04, 0.04, 8), heights)


def _spots(canvas: np.ndarray, rng: np.random.Generator, count: int, lowest: float, radius: float) -> None:
    """Small bright discs (stars, snowflakes) above `lowest`."""
    size = len(canvas)
    for _ in range(count):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, lowest), radius * rng.uniform(0.6, 1.3)
        left, right = max(0, int((cx - 2 * r) * size)), int((cx + 2 * r) * size) + 2
        top, bottom = max(0, int((cy - 2 * r) * size)), int((cy + 2 * r) * size) + 2
        window = canvas[top:bottom, left:right]
        y, x = np.arange(top, top + window.shape[0]) / size, np.arange(left, left + window.shape[1]) / size
        cover = np.clip(1.5 - np.hypot(x[None, :] - cx, y[:, None] - cy) / r, 0, 1)[:, :, None]
        window += (np.array((250, 250, 240)) - window) * cover


def _landscape(name: str, rng: np.random.Generator, size: int) -> np.ndarray:
    horizon = rng.uniform(0.42, 0.6)
    flat = np.full(size, horizon)
    day = _sky((116, 182, 246), (206, 232, 252), size)
    match name:
        case "beach":
            _ground(day, flat, (60, 150, 205), (36, 120, 190))
            _ground(day, _hills(rng, size, horizon + 0.16, 0.02, 1.2), (240, 214, 150), (232, 200, 130))
        case "meadow":
            _ground(day, _hills(rng, size, horizon, 0.03, 0.8), (88, 170, 60), (140, 206, 90))
        case "snow":
            day = _sky((186, 204, 222), (222, 232, 242), size)
            _ground(day, _hills(rng, size, horizon, 0.03, 0.8), (250, 252, 255), (232, 240, 250))
            _spots(day, rng, 26, 1.0, 0.011)
        case "night":
            day = _sky((10, 14, 44), (34, 40, 92), size)
            _spots(day, rng, 34, 0.8, 0.008)
            _ground(day, _hills(rng, size, 0.84, 0.03, 1.0), (12, 16, 30), (18, 24, 44))
        case "desert":
            day = _sky((250, 214, 150), (252, 236, 200), size)
            _ground(day, _hills(rng, size, horizon, 0.05, 0.7), (214, 150, 78), (236, 184, 108))
        case "sea":
            _ground(day, flat - 0.12, (16, 78, 150), (50, 136, 206))
            y = np.linspace(0, 1, size)[:, None]
            x = np.linspace(0, 1, size)[None, :]
            waves = np.sin(2 * math.pi * (14 * y + 0.25 * np.sin(2 * math.pi * (2 * x + rng.uniform()))))
            day += np.where(y > horizon - 0.12, 9 * waves, 0)[:, :, None]
        case "mountains":
            edge = _peaks(rng, size)
            _ground(day, edge, (104, 108, 130), (136, 142, 166))
            caps = ((np.arange(size)[:, None] + 0.5) / size > edge) & (np.arange(size)[:, None] / size < 0.4)
            day[caps] = (240, 244, 250)
            _ground(day, _hills(rng, size, 0.78, 0.02, 1.0), (86, 140, 76), (110, 160, 92))
        case "sunset":
            day = _sky((116, 70, 140), (255, 158, 84), size)
            _ground(day, flat + 0.14, (70, 44, 80), (150, 84, 96))
        case _:
            raise ValueError(f"no background {name!r}")
    return day + rng.uniform(-6, 6, 3)
