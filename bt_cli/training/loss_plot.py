"""The loss curves of a run as one SVG file, written by hand so that training needs no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bt_cli.files.atomic_write import write_whole

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 50
COLOURS = {"loss": "#444444", "itc": "#1f77b4", "itc_cross": "#17a2b8", "itm": "#d62728", "mlm": "#2ca02c"}
POINTS = 400
"""Most points of a curve; more steps than that are averaged into them."""


def write_loss_plot(path: Path, lines: Sequence[dict[str, Any]], title: str) -> None:
    """Plot every loss in the log's lines against the step. Stages are told apart by a grey line. Raises Unwritable."""
    write_whole(path, loss_plot(lines, title))


def loss_plot(lines: Sequence[dict[str, Any]], title: str) -> str:
    """The SVG; without a single step an empty frame."""
    steps = [line for line in lines if "loss" in line]
    curves = {name: _thin([(line["step"], line[name]) for line in steps if name in line]) for name in COLOURS}
    curves = {name: points for name, points in curves.items() if points}
    last = max((line["step"] for line in steps), default=1)
    highest = max((value for points in curves.values() for _, value in points), default=1.0) or 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / highest

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}: loss by step</text>',
    ]
    for quarter in range(5):
        value = highest * quarter / 4
        _, height = place(0, value)
        parts.append(f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{value:.2f}</text>')
        across, _ = place(last * quarter / 4, 0)
        label = f"{last * quarter / 4:.0f}"
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    parts += [_boundary(place(step, 0)[0], name) for step, name in _stages(steps)]
    for number, (name, points) in enumerate(curves.items()):
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        colour = COLOURS[name]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        height, across = TOP + 16 + 20 * number, WIDTH - RIGHT + 20
        parts.append(f'<path d="M{across} {height}h18" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{across + 24}" y="{height + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _stages(steps: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Where each stage begins."""
    starts: dict[str, int] = {}
    for line in steps:
        starts.setdefault(line.get("stage", ""), line["step"])
    return [(step, name) for name, step in starts.items()]


def _boundary(across: float, name: str) -> str:
    line = f'<path d="M{across:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#bbbbbb" stroke-dasharray="3 3"/>'
    return f'{line}<text x="{across + 4:.1f}" y="{TOP + 10}" fill="#888888" font-size="10">{escape(name)}</text>'


def _thin(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Averages of neighbours, at most POINTS of them."""
    size = -(-len(points) // POINTS)
    chunks = [points[start : start + size] for start in range(0, len(points), size)] if size else []
    return [(sum(s for s, _ in chunk) / len(chunk), sum(v for _, v in chunk) / len(chunk)) for chunk in chunks]
