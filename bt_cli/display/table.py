"""Tables on stdout: rich's layout on a terminal, the same columns in full width where a program or a file reads.

On a terminal long cells are folded, never cut, and the score bars go first where it is narrow. Elsewhere there is no
width to keep to: one row stays one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bt_cli.display.safe_text import printable
from bt_cli.display.score_bar import score_bar

NARROW = 60
"""Columns of a terminal below which bars give their room to the words."""
TIGHT = 80
"""Columns of a terminal below which headings are short, so that none is wider than its cells."""
BAR = 12
UNBOUND = 10**6


@dataclass(frozen=True)
class Column:
    """A column: heading, and how its cells are written."""

    heading: str
    right: bool = False
    style: str = ""
    bar: bool = False
    """The cells are shares between 0 and 1, drawn as bars; `None` is drawn as nothing."""
    short: str | None = None
    """The heading where there is little room; None: the same."""

    def heading_in(self, width: int) -> str:
        """The heading on a terminal of so many columns."""
        return self.short if self.short is not None and width < TIGHT else self.heading


@dataclass
class Rows:
    """What a table shows: its columns and, for each row, one cell a column."""

    columns: Sequence[Column]
    cells: list[Sequence[Any]] = field(default_factory=list)

    def add(self, *cells: Any) -> None:
        """Append a row; None is an empty cell."""
        self.cells.append(cells)


def show(rows: Rows) -> None:
    """Print a table on stdout; nothing at all where it has no rows."""
    if not rows.cells:
        return
    from rich.console import Console

    stream = sys.stdout
    unicode = (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")
    terminal = stream.isatty()
    width = None if terminal else UNBOUND
    console = Console(file=stream, highlight=False, emoji=False, markup=False, width=width)
    bars = not terminal or console.width >= NARROW
    with console.capture() as capture:
        console.print(_table(rows, console.width, bars=bars, unicode=unicode))
    text = "".join(line.rstrip() + "\n" for line in capture.get().splitlines() if line.strip())
    stream.flush()
    stream.buffer.write(text.encode(stream.encoding or "ascii", "backslashreplace"))
    stream.flush()


def _table(rows: Rows, width: int, *, bars: bool, unicode: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = [place for place, column in enumerate(rows.columns) if bars or not column.bar]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place in shown:
        column = rows.columns[place]
        table.add_column(
            column.heading_in(width),
            justify="right" if column.right else "left",
            style=column.style or None,
            overflow="fold",
            no_wrap=column.right or column.bar,
            min_width=BAR if column.bar else None,
        )
    for cells in rows.cells:
        table.add_row(*(Text(_written(rows.columns[place], cells[place], unicode)) for place in shown))
    return table


def _written(column: Column, cell: Any, unicode: bool) -> str:
    if cell is None:
        return ""
    if column.bar:
        return score_bar(cell, BAR, unicode=unicode)
    return printable(cell) if isinstance(cell, str) else str(cell)
