"""The last line on stderr: what was done, with what, how fast, and what was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bt_cli.display.remarks import remark

SHOWN = 5
"""Files that are named for the same reason before the rest is counted."""

LIMITS = {"network": "the model", "decoding": "image decoding"}
"""What set the pace, in words that nobody takes for the internet."""


def closing_line(
    done: str,
    *,
    seconds: float,
    images: int | None = None,
    working: float | None = None,
    model: Any = None,
    slower: str | None = None,
    skipped: Sequence[str] = (),
    incomplete: Sequence[str] = (),
    passed_over: Sequence[str] = (),
) -> None:
    """Say what was skipped, one line each with its reason, then what was done and what was passed over.

    Args:
        done: What was done, as a sentence's beginning: `100 images reranked`.
        seconds: What it took in all.
        images: How many images went through the network, for the rate, which one alone does not give; None where that
            is not what took the time.
        working: Seconds in which they did, loading left out; None: `seconds`.
        model: Anything with `device` and `precision`; None where no network ran.
        slower: Which of two that work side by side the other waited for, `network` or `decoding`.
        skipped: `path: reason` of each file that was left out. Behind the first `SHOWN` of a reason, the others
            of it are only counted.
        incomplete: `path: what is missing` of each image that was taken all the same; so, too.
        passed_over: Lines on the files that nobody tried to read.
    """
    for line in _few_of_each(skipped):
        remark(f"skipped {line}")
    for line in _few_of_each(incomplete):
        remark(line)
    parts = [f"{done} in {duration(seconds)}"]
    if model is not None:
        parts.append(f"on {model.device} in {model.precision}")
    span = seconds if working is None else working
    if images and images > 1 and span > 0:
        parts.append(f"{rate(images / span)} images/s")
    if slower is not None:
        parts.append(f"limited by {LIMITS[slower]}")
    if skipped:
        parts.append(f"{len(skipped):,} skipped")
    if incomplete:
        parts.append(f"{len(incomplete):,} incomplete")
    remark("; ".join([", ".join(parts), *passed_over]))


def _few_of_each(lines: Sequence[str]) -> Iterator[str]:
    """The lines; where more than `SHOWN` end in the same words, the first of them and how many there are more."""
    reasons = [re.sub(r"\d[\d.]*%", "a share", line.split(": ", 1)[-1]) for line in lines]
    numbers, seen = Counter(reasons), Counter[str]()
    for line, reason in zip(lines, reasons, strict=True):
        seen[reason] += 1
        if seen[reason] <= SHOWN:
            yield line
        elif seen[reason] == numbers[reason]:
            yield f"{numbers[reason] - SHOWN:,} more: {reason}"


def duration(seconds: float) -> str:
    """A span of time as people say it: `0.42 s`, `12.3 s`, `4 min 07 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def rate(value: float) -> str:
    """Three digits are enough for a rate: `0.0521`, `4.37`, `128`, `1,512`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """`1 image`, `24,000 images`; `nouns` where the plural is not noun + s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
