"""`bt duplicates`: images that the index holds more than once, and which of them to keep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bt_cli.arguments.options import Index, Json, Quiet
from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_object
from bt_cli.display.progress import progress
from bt_cli.display.skipped import say_not_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bt_cli.search.duplicates import Group


def run(
    near: Annotated[
        float | None,
        typer.Option("--near", metavar="COSINE", help="Near twins, too: embeddings of at least this cosine, as 0.98."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the groups as a page with images, in one file.")
    ] = None,
    index: Index = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Group images of equal content, and say which to keep; nothing is deleted.

    To keep is the image with the most pixels; of equals the one with the most bytes, then the oldest. The index is not
    brought up to date first: run bt index.
    """
    from bt_cli.search.duplicates import find_duplicates
    from bt_cli.store.index_folder import IndexFolder

    started = time.perf_counter()
    with IndexFolder.open(IndexFolder.locate(index)) as folder, progress("comparing", "image") as ticked:
        groups = find_duplicates(folder, near, progress=ticked)
        searched = len(folder)
    if html is not None:
        from bt_cli.pages.duplicates_page import write_duplicates_page

        say_not_shown(write_duplicates_page(html, groups, searched))
    if as_json:
        for number, group in enumerate(groups, 1):
            write_object(group.record(number))
    else:
        _show(groups)
    spare = sum(len(group.images) - 1 for group in groups)
    size = sum(group.spare_bytes for group in groups)
    closing_line(
        f"{count(len(groups), 'group')} among {count(searched, 'image')}; {count(spare, 'copy', 'copies')} to spare, "
        f"{size / 1e6:,.1f} MB,",
        seconds=time.perf_counter() - started,
    )


def _show(groups: Sequence[Group]) -> None:
    from bt_cli.display.table import Column, Rows, show

    columns = [
        Column("group", right=True),
        Column("", whole=True),
        Column("cosine", right=True),
        Column("pixels", right=True),
        Column("kB", right=True),
        Column("image", path=True),
    ]
    rows = Rows(columns)
    for number, group in enumerate(groups, 1):
        for place, copy in enumerate(group.images):
            rows.add(
                number,
                "keep" if place == 0 else "equal" if group.equal else "near",
                f"{copy.cosine:.4f}",
                f"{copy.width} x {copy.height}",
                f"{copy.size / 1000:,.1f}",
                copy.path,
            )
    show(rows)
