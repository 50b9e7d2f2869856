"""A share between 0 and 1 as a bar of a few characters."""

from __future__ import annotations

EIGHTHS = " ▏▎▍▌▋▊▉█"


def score_bar(share: float, width: int, *, unicode: bool = True) -> str:
    """A bar that fills `share` of `width` characters, in steps of an eighth of one (whole ones without Unicode).

    Anything above 0 shows at least its first step, so that only a true nothing looks like nothing.
    """
    share = min(max(share, 0.0), 1.0)
    if not unicode:
        filled = round(share * width)
        return "#" * max(filled, int(share > 0))
    eighths = max(round(share * width * 8), int(share > 0))
    whole, part = divmod(eighths, 8)
    return EIGHTHS[8] * whole + (EIGHTHS[part] if part else "")
