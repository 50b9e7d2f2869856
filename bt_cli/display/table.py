"""Tables on stdout: rich's layout on a terminal, the same columns in full width where a program or a file reads.

On a terminal long cells are folded, never cut, and the score bars go first where it is narrow. Where the numbers alone
are wider than the terminal, the table is turned: headings down the side, a column a row; or, where not even that fits,
one row below the other. Elsewhere there is no width to keep to: one row stays one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bt_cli.display.safe_text import printable
from bt_cli.display.score_bar import score_bar
from bt_cli.sources.web_address import address_of

NARROW = 60
"""Columns of a terminal below which bars give their room to the words."""
TIGHT = 80
"""Columns of a terminal below which headings are short, so that none is wider than its cells."""
BAR = 12
GAP = 2
"""Columns between two cells."""
WORDS = 8
"""Columns below which words are no longer folded into a cell."""


@dataclass(frozen=True)
class Column:
    """A column: heading, and how its cells are written."""

    heading: str
    right: bool = False
    style: str = ""
    bar: bool = False
    """The cells are shares between 0 and 1, drawn as bars; `None` is drawn as nothing."""
    path: bool = False
    """The cells are files of this machine, and links to them where the terminal has links."""
    whole: bool = False
    """The cells are names to be copied, which are never folded."""
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
    title: str = ""
    """A line above the table, on a terminal alone."""

    def add(self, *cells: Any) -> None:
        """Append a row; None is an empty cell."""
        self.cells.append(cells)


def show(rows: Rows) -> None:
    """Print a table on stdout; nothing at all where it has no rows."""
    if not rows.cells:
        return
    stream = sys.stdout
    unicode = (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")
    text = _on_terminal(rows, unicode=unicode) if stream.isatty() else _in_file(rows, unicode=unicode)
    stream.flush()
    stream.buffer.write(text.encode(stream.encoding or "ascii", "backslashreplace"))
    stream.flush()


def _on_terminal(rows: Rows, *, unicode: bool) -> str:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    bars = console.width >= NARROW and _fits(rows, console.width, bars=True)
    with console.capture() as capture:
        if rows.title:
            console.print(printable(rows.title), style="dim")
        if not _fits(rows, console.width, bars=bars):
            for turned in _turned(rows, console.width):
                console.print(_table(turned, console.width, bars=False, unicode=unicode, links=_has_links()))
        else:
            console.print(_table(rows, console.width, bars=bars, unicode=unicode, links=_has_links()))
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines() if line.strip())


def _in_file(rows: Rows, *, unicode: bool) -> str:
    """One line a row, without rich: its import takes as long as all of bt's own."""
    from rich.cells import cell_len

    headings = [column.heading for column in rows.columns]
    lines = [headings] if any(headings) else []
    lines += [
        [_written(column, cell, unicode) for column, cell in zip(rows.columns, cells, strict=True)]
        for cells in rows.cells
    ]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    widths = [max(width, BAR if column.bar else 0) for column, width in zip(rows.columns, widths, strict=True)]
    text = ""
    for line in lines:
        written = []
        for column, cell, width in zip(rows.columns, line, widths, strict=True):
            room = " " * (width - cell_len(cell))
            written.append(room + cell if column.right else cell + room)
        text += (" " * GAP).join(written).rstrip() + "\n"
    return text


def _has_links() -> bool:
    """Whether a terminal is likely to know links (OSC 8), and the user wants more than plain text."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _fits(rows: Rows, width: int, *, bars: bool) -> bool:
    """Whether every number and heading has its whole width, and what can be folded a little room."""
    return _least_width(rows, width, bars=bars) <= width


def _least_width(rows: Rows, width: int, *, bars: bool) -> int:
    from rich.cells import cell_len

    least = []
    for place, column in enumerate(rows.columns):
        if column.bar:
            least += [BAR] if bars else []
            continue
        cells = max((cell_len(_written(column, cells[place], True)) for cells in rows.cells), default=0)
        heading = column.heading_in(width)
        words = [heading] if column.right else heading.split()  # numbers and what stands above them are never folded
        title = max(map(cell_len, words), default=0)
        least.append(max(title, cells if column.right or column.whole else min(cells, WORDS)))
    return sum(least) + GAP * (len(least) - 1)


def _turned(rows: Rows, width: int) -> list[Rows]:
    """The table with its headings down the side: all rows side by side, or one below the other where it is narrow."""
    shown = [place for place, column in enumerate(rows.columns) if not column.bar]
    headings = [rows.columns[place].heading_in(width) for place in shown]
    first = shown[0]
    together = Rows(
        [
            Column(headings[0]),
            *(Column(_written(rows.columns[first], cells[first], True), right=True) for cells in rows.cells),
        ]
    )
    for heading, place in zip(headings[1:], shown[1:], strict=True):
        together.add(heading, *(_written(rows.columns[place], cells[place], True) for cells in rows.cells))
    if all(rows.columns[place].right for place in shown[1:]) and _fits(together, width, bars=False):
        return [together]
    apart = []
    for cells in rows.cells:
        one = Rows([Column(headings[0]), Column(_written(rows.columns[first], cells[first], True))])
        for heading, place in zip(headings[1:], shown[1:], strict=True):
            one.add(heading, _written(rows.columns[place], cells[place], True))
        apart.append(one)
    return apart


def _table(rows: Rows, width: int, *, bars: bool, unicode: bool, links: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = [place for place, column in enumerate(rows.columns) if bars or not column.bar]
    headed = any(column.heading for column in rows.columns)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=headed)
    for place in shown:
        column = rows.columns[place]
        table.add_column(
            column.heading_in(width),
            justify="right" if column.right else "left",
            style=column.style or None,
            overflow="fold",
            no_wrap=column.right or column.bar or column.whole,
            min_width=BAR if column.bar else None,
        )
    for cells in rows.cells:
        table.add_row(
            *(
                Text(
                    _written(rows.columns[place], cells[place], unicode),
                    style=_link(cells[place]) if links and rows.columns[place].path else "",
                )
                for place in shown
            )
        )
    return table


def _link(path: Any) -> Any:
    from rich.style import Style

    return Style(link=address_of(path)) if path else ""


def _written(column: Column, cell: Any, unicode: bool) -> str:
    if cell is None:
        return ""
    if column.bar:
        return score_bar(cell, BAR, unicode=unicode)
    return printable(cell) if isinstance(cell, str) else str(cell)
