"""Which columns are kept: the names of `--keep`, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bt_cli.embeddings.kept_columns import OWN_COLUMNS
from bt_cli.errors import Misuse
from bt_cli.files.shown_path import shown_path

OF_EXPORTS = ("id", "vector", "image_id")
"""What exports call their own columns."""
LONGEST_NAME = 200
MOST = 64
"""Columns of one index."""


def kept_names(words: Iterable[str]) -> list[str]:
    """The names in some words, each with names between commas; empty ones name nothing. Each once, in their order.

    Raises:
        Misuse: One is that of a column which every table has, or can't be a column's name.
    """
    names = list(dict.fromkeys(name.strip() for word in words for name in word.split(",") if name.strip()))
    require_names(names)
    return names


def require_names(names: Sequence[str]) -> None:
    """Refuse names that can't be kept.

    Raises:
        Misuse: As `kept_names`.
    """
    own = {name.lower() for name in (*OWN_COLUMNS, *OF_EXPORTS)}
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in own:
            raise Misuse(
                f"--keep {shown_path(name)}: every table has a column of its own called {name.lower()}; give the "
                "source's another name, or leave it out"
            )
        if len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip() or not name:
            raise Misuse(
                f"--keep {shown_path(name[:60])}: no name of a column: up to {LONGEST_NAME} letters, printable"
            )
        if name.lower() in seen:
            raise Misuse(
                f"--keep {shown_path(seen[name.lower()])},{shown_path(name)}: many programs take these for one column; "
                "keep one of them"
            )
        seen[name.lower()] = name
    if len(names) > MOST:
        raise Misuse(f"--keep: {len(names)} columns, and an index keeps {MOST} at most")
