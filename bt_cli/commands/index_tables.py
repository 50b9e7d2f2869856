"""`bt index --tables`: an index from tables that were encoded before, here or on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_cli.display.closing_line import closing_line, count
from bt_cli.errors import Misuse

if TYPE_CHECKING:
    from bt_cli.indexing.build import IndexSummary


def index_tables_command(
    place: Path,
    tables: list[Path],
    others: dict[str, Any],
    *,
    rebuild: bool,
    compact: bool,
    factory: str | None,
) -> IndexSummary:
    """Make or extend the index at `place`; `others` are options by name that encode or look through folders."""
    from bt_cli.indexing.from_tables import index_tables

    given = [name for name, value in others.items() if value]
    if given:
        raise Misuse(f"--tables takes what is encoded already, so {given[0]} has no place beside it; leave it out")
    return index_tables(place, tables, rebuild=rebuild, factory=factory, compact=compact)


def close_tables(summary: IndexSummary) -> None:
    """What was done, on stderr."""
    changes = [f"{number:,} {name}" for name in ("added", "updated", "unchanged") if (number := getattr(summary, name))]
    rows = summary.added + summary.updated + summary.unchanged
    closing_line(
        f"{count(rows, 'image')} in {summary.index} ({', '.join(changes) or 'none'}), none encoded",
        seconds=summary.seconds,
    )
