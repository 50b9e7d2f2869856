"""Where `bt index` writes, and with which checkpoint an index that is there goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bt_cli.errors import BtError, NoIndex
from bt_cli.store.index_folder import FOLDER, IndexFolder, require_name
from bt_cli.store.manifest import Manifest


@dataclass(frozen=True)
class IndexPlace:
    """An index folder, there already or to be made."""

    folder: Path
    checkpoint: str | None
    """What made the index that is there; None where there is none, or none that can be understood."""


def index_place(explicit: str | os.PathLike[str] | None) -> IndexPlace:
    """The folder that was named; else `.bt` here, or the nearest one above that is an index, or `.bt` here to be
    made.

    Raises:
        Misuse: The name is empty.
    """
    here = Path(FOLDER)
    if explicit is not None:
        require_name(explicit)
        folder = Path(explicit)
    elif here.is_dir():
        folder = here
    else:
        try:
            folder = IndexFolder.locate()
        except NoIndex:
            folder = here
    try:
        return IndexPlace(folder, Manifest.read(folder).identity.checkpoint)
    except BtError:
        return IndexPlace(folder, None)
