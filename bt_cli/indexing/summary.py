"""What a run did, and what to say where it could do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bt_cli.datasets.passed_over import PassedOver
from bt_cli.errors import EmptyFolder, UnreadableImage
from bt_cli.files.shown_path import shown_path


@dataclass
class IndexSummary:
    """What a run did. `added + updated + unchanged` is the number of rows of the index, `removed` those that went."""

    index: str
    added: int = 0
    """Paths that are new to the index; a moved file counts here and in `removed`."""
    updated: int = 0
    """Paths that were there and have other content now."""
    removed: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Files that could not be read, named in `failures`."""
    encoded: int = 0
    """Images that went through the network; added ones whose content the index knew did not."""
    captions: int = 0
    """Captions that the index holds."""
    uncaptioned: int = 0
    """Images that an index of pairs leaves out, since no caption is theirs."""
    largest_side: int = 0
    """Pixels of the longest side of any image that was encoded."""
    seconds: float = 0.0
    images_per_second: float = 0.0
    """Of the images encoded, over the time that encoding took; 0 where there were none."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of each skipped file."""
    incomplete: list[str] = field(default_factory=list)
    """A line for each image that was encoded and lacks some rows at its end."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """Files that were not looked at, and images that no installed package reads."""


def nothing_readable(summary: IndexSummary) -> UnreadableImage:
    """What to raise where no file could be read: the first one's reason, and how many more there are."""
    failures = [message for _, message in summary.failures]
    more = f" (and {len(failures) - 1:,} more that can't be read)" if len(failures) > 1 else ""
    return UnreadableImage(f"{failures[0]}{more}; nothing was written")


def no_images(places: Sequence[str], passed_over: PassedOver) -> EmptyFolder:
    """What to raise where a walk found no image: what it passed over says why."""
    shown = ", ".join(shown_path(place) for place in places[:3])
    said = "; ".join(passed_over.lines())
    return EmptyFolder(f"{shown}: no images there" + (f": {said}" if said else ""))
