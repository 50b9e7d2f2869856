"""The columns that an index carries along (`--keep`), as an update brings them up to date: nothing is encoded for them.

They are looked up for images that are new, changed or moved, and for those whose rows are in a table without one of
the columns; when they were asked for in this run, or it verifies, for all images that are there. A source that lacks a
column leaves what the index has; one that has it and says nothing makes it null.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.embeddings.kept_columns import blank_kept
from bt_cli.kept.lookup import Kept, Lookup

if TYPE_CHECKING:
    from bt_cli.embeddings.image_rows import ImageRows
    from bt_cli.planning.listing import Listing
    from bt_cli.store.stored_rows import StoredRows


LOG = logging.getLogger("bt_cli")


class KeptSource:
    """What sources say, for one run.

    Args:
        names: The columns that the index keeps from now on.
        roots: All of the index, as they are opened.
        asked: Whether the names were given in this run.
        verify: Whether every image is looked at again.

    Attributes:
        other: (m,) places of the listing: unchanged images whose rows are to be written anew.
    """

    def __init__(self, names: Sequence[str], roots: Sequence[str], *, asked: bool, verify: bool) -> None:
        self.names = list(names)
        self.asked = asked
        self.everything = asked or verify
        self.lookup = Lookup(self.names, roots)
        self.other = np.empty(0, np.int64)
        self._places = np.empty(0, np.int64)
        self._found = Kept({}, {})

    @cached_property
    def other_set(self) -> frozenset[int]:
        """`other`, to look in."""
        return frozenset(self.other.tolist())

    def look(
        self, listing: Listing, own: np.ndarray, same: np.ndarray, stored: StoredRows, opened: Callable[[str], str]
    ) -> None:
        """Read the sources.

        Args:
            own: (n,) the id with each one's path, or -1.
            same: (n,) bool: the unchanged ones.
            opened: Makes of a stored path what is opened.

        Raises:
            Misuse: A name that was asked for is in no source, or what it names holds bytes.
        """
        if not self.names:
            return
        here = np.flatnonzero(same)
        lacking = stored.lacks_kept(self.names)[own[here]] if len(stored) else np.zeros(len(here), bool)
        wanted = ~same
        wanted[here[lacking | self.everything]] = True
        self._places = np.flatnonzero(wanted)
        self._found = self.lookup.of([opened(listing.name(place)) for place in self._places.tolist()])
        self.lookup.require(self.names if self.asked else ())
        for said in self.lookup.remarks(self.names if self.asked else ()):
            LOG.warning("%s", said)
        changed = np.zeros(len(self._places), bool)
        unchanged = np.flatnonzero(same[self._places])
        ids = own[self._places[unchanged]]
        if len(unchanged):
            changed[unchanged] = stored.lacks_kept(self.names)[ids]
            for name in self.names:
                differs = self._found.values[name][unchanged] != stored.kept(name, ids)
                changed[unchanged] |= differs & self._found.known[name][unchanged]
        self.other = self._places[changed]

    def fill(
        self,
        rows: ImageRows,
        changed: np.ndarray,
        own: np.ndarray,
        source: np.ndarray,
        removed: np.ndarray,
        stored: StoredRows,
    ) -> None:
        """Bring the values to rows that are to be written. Where a source has no such column, the row that had the path
        before says it, or that of the image that has moved away.

        Args:
            rows: (n) of them.
            changed: (n,) their places in the listing.
            own, source: (n,) the ids with each one's path, and with its content, or negative.
            removed: Ids that leave.
        """
        rows.keep(self.names)
        if not self.names or not len(rows):
            return
        at = np.searchsorted(self._places, changed)
        moved = (own < 0) & (source >= 0) & np.isin(source, removed)
        before = np.where(moved, source, own)
        for name in self.names:
            values, known = self._found.values[name][at], self._found.known[name][at]
            from_row = np.flatnonzero(~known & (before >= 0))
            held = blank_kept(len(rows))
            held[from_row] = stored.kept(name, before[from_row])
            rows.kept[name][:] = np.where(known, values, held)


def kept_now(roots: Sequence[str], names: Sequence[str], paths: Sequence[str]) -> dict[str, np.ndarray]:
    """What sources say of images at these paths now, (n,) objects by name: for a table that is made anew."""
    return Lookup(names, roots).of(paths).values
