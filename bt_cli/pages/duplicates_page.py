"""`bt duplicates --html`: groups of images that show the same, the one to keep first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.files.atomic_write import write_whole
from bt_cli.pages.gallery import Card, gallery

if TYPE_CHECKING:
    from bt_cli.search.duplicates import Group


def write_duplicates_page(place: Path, groups: Sequence[Group], searched: int) -> list[str]:
    """Write the gallery of groups to `place`; gives what could not be shown, each with its reason.

    Raises:
        Unwritable: `place` can't be written.
    """
    cards = []
    for number, group in enumerate(groups, 1):
        for copy in group.images:
            keep = copy is group.images[0]
            kind = "keep" if keep else "equal" if group.equal else "near"
            facts = {
                "cosine": f"{copy.cosine:.4f}",
                "pixels": f"{copy.width} x {copy.height}",
                "kB": f"{copy.size / 1000:,.1f}",
            }
            cards.append(Card(copy.path, f"group {number}", max(copy.cosine, 0.0), f"group {number}: {kind}", facts))
    made = gallery("Duplicates", [f"{len(groups):,} groups among {searched:,} images"], cards, place=place)
    write_whole(place, made.html)
    return made.skipped
