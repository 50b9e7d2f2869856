"""Charts as inline SVG, in the colours of the page that holds them: lines and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.pages.page import text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 28, 12, 48
BINS = 40


@dataclass(frozen=True)
class Series:
    """A named row of numbers; the first is drawn strongest, the second broken."""

    name: str
    values: Sequence[float] | NDArray[np.float64]


def line_chart(title: str, across: str, series: Sequence[Series]) -> str:
    """Shares (0 to 1) by place 1, 2, 3 ... of each series, all of one length, from 0 to 100 %.

    Args:
        title: What is shown.
        across: What the places are.
        series: At least one, with at least one value.
    """
    longest = max(len(each.values) for each in series)
    step = (WIDTH - LEFT - RIGHT) / max(longest - 1, 1)
    parts = [_level(share, f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ticks = sorted({1, *(tick for tick in (5, 10, 20, 30, 40, 50, 100) if tick < longest), longest})
    parts += [_tick(LEFT + step * (tick - 1), str(tick)) for tick in ticks]
    for number, each in enumerate(series):
        points = " ".join(f"{LEFT + step * place:.1f},{_height(value):.1f}" for place, value in enumerate(each.values))
        parts.append(f'<polyline class="curve s{number}" points="{points}"/>')
    said = "; ".join(
        f"{each.name}: {_percent(each.values[0])} at 1, {_percent(each.values[-1])} at {longest}" for each in series
    )
    return _framed(title, across, series, parts, said)


def histogram(title: str, across: str, series: Sequence[Series]) -> str:
    """How the values of each series spread: shares of its own number, so that few and many can be compared.

    Raises:
        ValueError: There is no finite value at all.
    """
    values = [_finite(each.values) for each in series]
    if not any(len(each) for each in values):
        raise ValueError("no finite value to draw")
    low, high = (float(end(np.concatenate(values))) for end in (np.min, np.max))
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = [np.histogram(each, BINS, (low, high))[0] / max(len(each), 1) for each in values]
    top = max(float(each.max()) for each in counts)
    wide = (WIDTH - LEFT - RIGHT) / BINS
    parts = [_level(share, f"{100 * share * top:.0f} %") for share in (0.0, 0.5, 1.0)]
    for number, shares in enumerate(counts):
        path = f"M{LEFT} {_height(0):.1f}" + "".join(
            f"V{_height(share / top):.1f}h{wide:.2f}" for share in shares.tolist()
        )
        parts.append(f'<path class="area s{number}" d="{path}V{_height(0):.1f}Z"/>')
    parts += [
        _tick(LEFT + (WIDTH - LEFT - RIGHT) * share, f"{low + (high - low) * share:.2f}")
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    said = "; ".join(
        f"{each.name}: {len(found):,} values, median {np.median(found):.2f}"
        for each, found in zip(series, values, strict=True)
        if len(found)
    )
    return _framed(title, across, series, parts, said)


def _framed(title: str, across: str, series: Sequence[Series], parts: list[str], said: str) -> str:
    # The names stand beside the drawing, as HTML: they wrap where the page is narrow.
    keys = [
        f'<span><svg class="sample" viewBox="0 0 20 8" aria-hidden="true"><path class="key s{number}" d="M0 4h20"/>'
        f"</svg>{text(each.name)}</span>"
        for number, each in enumerate(series)
    ]
    return (
        f'<figure><figcaption>{text(title)}</figcaption><p class="keys">{"".join(keys)}</p>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(f"{title}. {said}")}">{"".join(parts)}'
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}">{text(across)}</text></svg></figure>'
    )


def _level(share: float, label: str) -> str:
    height = _height(share)
    return (
        f'<path class="grid" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="level" x="{LEFT - 6}" y="{height + 4:.1f}">{label}</text>'
    )


def _tick(place: float, label: str) -> str:
    return f'<text class="tick" x="{place:.1f}" y="{HEIGHT - BOTTOM + 20}">{label}</text>'


def _height(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * float(share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]
