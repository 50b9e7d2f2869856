"""Where an index's relative paths start: the folder above it."""

from __future__ import annotations

import os


def home_of(folder: str | os.PathLike[str], recorded: str | None = None) -> str:
    """The folder above an index folder, absolute.

    An index that is reached through a link has two: the one that holds the link and the one that holds the folder
    itself. Either may be meant (an index kept on another disk and linked beside its pictures; a link to a library
    with its index), so the one that the index was written from decides.

    Args:
        folder: The index folder; it need not exist.
        recorded: `Manifest.home`, where there is a manifest.

    Returns:
        The folder that holds `folder` by its name, unless `recorded` is the real one.
    """
    by_name = os.path.dirname(os.path.abspath(folder))
    real = os.path.dirname(os.path.realpath(folder))
    return real if real == recorded else by_name
