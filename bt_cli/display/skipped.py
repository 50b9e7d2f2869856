"""What is left out while something is read: the first few are named at once, all are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bt_cli.display.remarks import remark
from bt_cli.errors import BtError

NAMED = 5
"""Of each kind of error, how many are named."""


def say_not_shown(reasons: Iterable[str]) -> None:
    """Say which images a page could not show; a reason names the file."""
    for reason in reasons:
        remark(f"no image of {reason}")


class SkipRemarks:
    """Says what is skipped as it comes, since the end of a run may be days away, and counts it.

    Of each kind of error (captions, images that are missing, images that can't be read) the first `NAMED` are named.
    """

    def __init__(self) -> None:
        self.kinds: Counter[type[BtError]] = Counter()

    @property
    def count(self) -> int:
        """How many were skipped so far."""
        return self.kinds.total()

    def add(self, error: BtError) -> None:
        """Say, or only count, what was skipped; the error's message is the line."""
        self.kinds[type(error)] += 1
        if self.kinds[type(error)] <= NAMED:
            remark(f"skipped {error}")

    def close(self, of: str) -> None:
        """Say how many more there were than those that were named; `of` is where they stand."""
        more = sum(max(0, count - NAMED) for count in self.kinds.values())
        if more:
            remark(f"skipped {more:,} more of {of}")
