"""Date, camera and place of images that are in an index already: read from the heads of their files, without encoding.

Tables of earlier versions have no columns for them. An update reads the heads of the images whose rows are in such a
table; one that verifies, those of all images of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.embeddings.photo_columns import NEVER
from bt_cli.files.photo_facts import PhotoFacts

if TYPE_CHECKING:
    from bt_cli.planning.listing import Listing
    from bt_cli.store.stored_rows import StoredRows


def lacking_facts(
    listing: Listing,
    own: np.ndarray,
    same: np.ndarray,
    stored: StoredRows,
    opened: Callable[[str], str],
    *,
    verify: bool,
) -> dict[int, PhotoFacts]:
    """What the heads of unchanged images say, by their places in the listing, where their rows are to say it.

    Images on the web have no head that could be read without fetching them: their rows stay as they are.

    Args:
        own: (n,) the id with each one's path, or -1.
        same: (n,) bool: the unchanged ones.
        opened: Makes of a stored path what is opened.
        verify: Look at those of which nothing is known, too; they are among the answers where their heads say anything.
    """
    if not len(stored) or not (verify or stored.lacks_photo_columns.any()):
        return {}  # before arrays of all images are made
    here = np.flatnonzero(same & ~listing.on_web)
    lacking = here[stored.lacks_photo_columns[own[here]]]
    found = facts_at({place: opened(listing.name(place)) for place in lacking.tolist()})
    if verify:
        blank = (stored.column("taken") == NEVER) & (stored.column("camera") == np.array(None))
        blank &= np.isnan(stored.column("latitude")) & ~stored.lacks_photo_columns
        heads = facts_at({place: opened(listing.name(place)) for place in here[blank[own[here]]].tolist()})
        found |= {place: facts for place, facts in heads.items() if facts != PhotoFacts()}
    return found


def facts_at(paths: Mapping[int, str]) -> dict[int, PhotoFacts]:
    """What the heads of image files say, by the same numbers."""
    if not paths:
        return {}
    from bt_cli.preprocessing.decoding import default_workers
    from bt_cli.preprocessing.image_file import read_photo_facts
    from bt_cli.preprocessing.memory_budget import DECODING, Reservation

    def facts(path: str) -> PhotoFacts:
        with Reservation(DECODING) as memory:
            return read_photo_facts(path, reserve=memory.ask)

    with ThreadPoolExecutor(default_workers(), thread_name_prefix="bt-head") as threads:
        return dict(zip(paths, threads.map(facts, paths.values()), strict=True))
