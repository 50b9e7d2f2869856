"""`bt label --html`: images with the label that fits each best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bt_cli.files.atomic_write import write_whole
from bt_cli.pages.gallery import Card, gallery

SHOWN = 4
"""Labels behind the best that a card shows."""


def write_label_page(
    place: Path, paths: Sequence[str], labels: Sequence[str], shares: NDArray[np.float32], checkpoint: str
) -> list[str]:
    """Write the gallery of labelled images to `place`; gives what could not be shown, each with its reason.

    Args:
        place: The page.
        paths: Image files.
        labels: By the columns of `shares`.
        shares: (n, m) float32, probabilities.
        checkpoint: What gave them, by name.

    Raises:
        Unwritable: `place` can't be written.
    """
    cards = []
    for path, row in zip(paths, shares, strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        facts = {labels[place]: f"{row[place]:.1%}" for place in order[1 : 1 + SHOWN]}
        best = float(row[order[0]])
        cards.append(Card(path, labels[order[0]], best, f"{best:.1%}", facts))
    remarks = [f"{len(cards):,} images", f"{len(labels):,} labels", f"with {checkpoint}"]
    made = gallery("Labels", remarks, cards, place=place)
    write_whole(place, made.html)
    return made.skipped
