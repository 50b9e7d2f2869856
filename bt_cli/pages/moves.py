"""A slope chart: where each answer stood before the second stage, and where it stands now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bt_cli.pages.page import text

ROW, LEFT, RIGHT, WIDTH, TOP = 26, 40, 170, 320, 14
NAME = 21
"""Characters of a name that there is room for."""


@dataclass(frozen=True)
class Move:
    """An answer's `rank` now, its place `before`, both from 1, and what it is called."""

    rank: int
    before: int
    name: str


def moves_drawn(moves: Sequence[Move]) -> str:
    """The chart as SVG of the page's classes: answers on the left in their old order, on the right in the new."""
    height = TOP + ROW * len(moves)
    old = {move.rank: place for place, move in enumerate(sorted(moves, key=lambda move: move.before))}
    parts = [_drawn(move, place, old[move.rank]) for place, move in enumerate(moves)]
    said = "; ".join(f"{move.before} to {move.rank}" for move in moves)
    return (
        f'<svg class="moves" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Moves from place to place: {said}">'
        f"{''.join(parts)}</svg>"
    )


def _drawn(move: Move, place: int, old: int) -> str:
    start, end = TOP + ROW * old, TOP + ROW * place
    way = "up" if move.rank < move.before else "down" if move.rank > move.before else "same"
    middle = (LEFT + RIGHT) / 2
    name = move.name if len(move.name) <= NAME else "…" + move.name[1 - NAME :]
    return (
        f'<g class="{way}"><path d="M{LEFT} {start}C{middle} {start} {middle} {end} {RIGHT} {end}"/>'
        f'<circle cx="{LEFT}" cy="{start}" r="3"/><circle cx="{RIGHT}" cy="{end}" r="3"/>'
        f'<text class="old" x="{LEFT - 10}" y="{start + 4}">{move.before}</text>'
        f'<text class="new" x="{RIGHT + 10}" y="{end + 4}">{move.rank}'
        f'<tspan class="name" dx="8">{text(name)}</tspan></text></g>'
    )
