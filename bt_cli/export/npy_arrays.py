"""An index as NumPy arrays, each with a file of lines that say what its rows are."""

from __future__ import annotations

import os
from pathlib import Path

from bt_cli.embeddings.npy_file import SUFFIX, rows_file, table_file
from bt_cli.errors import Misuse
from bt_cli.export.index_contents import Exported, IndexContents
from bt_cli.files.shown_path import shown_path


def to_npy(contents: IndexContents, out: str, *, overwrite: bool = False) -> Exported:
    """Write `x.npy` with `x.rows.jsonl` (see `npy_file`), and `x.captions.npy` with its own where there are captions.

    Raises:
        Misuse: `out` does not end in .npy; a file is there already, without `overwrite`.
    """
    path = Path(out)
    if path.suffix.lower() != SUFFIX:
        raise Misuse(f"{shown_path(out)}: the array's name ends in .npy")
    wanted = {path: contents.images()}
    if contents.captions:
        wanted[path.with_name(f"{path.stem}.captions{SUFFIX}")] = contents.texts()
    there = [file for array in wanted for file in (array, rows_file(array)) if os.path.lexists(file)]
    if there and not overwrite:
        raise Misuse(f"{shown_path(there[0])}: is there already; name another file, or give --overwrite")
    for array, tables in wanted.items():
        first = next(tables)
        with table_file(array, first.schema) as file:
            file.write({name: first.column(name) for name in first.column_names})
            for table in tables:
                file.write({name: table.column(name) for name in table.column_names})
    return Exported(len(contents.folder), contents.captions)
