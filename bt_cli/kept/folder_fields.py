"""What a `metadata` file says of the images of a folder: `metadata.jsonl`, `.csv` or `.parquet`, in the image's folder
or one above it up to the root, as the image folders of Hugging Face's `datasets` have them. The nearest that names an
image counts."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

from bt_cli.captions.caption_columns import Columns
from bt_cli.captions.caption_folder import METADATA
from bt_cli.files.plain_file import open_plain
from bt_cli.kept.container_fields import ROWS_AT_A_TIME, Fields, Told, Unread, readable_columns
from bt_cli.sources.parquet_shard import opened_table

LONGEST_LINE = 1 << 24
"""Characters of a line of a metadata file."""


def folder_fields(
    paths: Collection[str], roots: Collection[str], names: Sequence[str], told: Told, unread: Unread
) -> Iterator[tuple[str, Fields]]:
    """(path, its fields) of those files that a metadata file below the roots names; each once.

    Raises:
        Misuse: One of the columns holds bytes.
    """
    left = {os.path.normpath(path): path for path in paths}
    ends = {os.path.normpath(root) for root in roots}
    folders = {folder for path in left for folder in _above(path, ends)}
    for folder in sorted(folders, key=lambda folder: (-folder.count(os.sep), folder)):
        for file in METADATA:
            path = os.path.join(folder, file)
            if left and os.path.isfile(path):
                for name, fields in _named(path, names, told, unread):
                    image = left.pop(os.path.normpath(os.path.join(folder, name)), None)
                    if image is not None:
                        yield image, fields


def _above(path: str, ends: set[str]) -> tuple[str, ...]:
    return _folders(os.path.dirname(path) or os.curdir, frozenset(ends))


@lru_cache(1 << 12)
def _folders(folder: str, ends: frozenset[str]) -> tuple[str, ...]:
    """A folder and those above it up to the first end; itself alone where none is above."""
    found = [folder]
    while found[-1] not in ends:
        above = os.path.dirname(found[-1]) or (os.curdir if found[-1] != os.curdir else "")
        if not above or above == found[-1]:
            return (folder,)
        found.append(above)
    return tuple(found)


def _named(path: str, names: Sequence[str], told: Told, unread: Unread) -> Iterator[tuple[str, Fields]]:
    """(name of the image, fields) of each row of a metadata file."""
    import pyarrow as pa

    reader: Callable[..., Iterator[Fields]]
    if path.endswith(".parquet"):
        reader = _of_parquet
    else:
        reader = _of_lines if path.endswith(".jsonl") else _of_commas
    try:
        for record in reader(path, names, unread):
            column = _name_column(tuple(record))
            told(name for name in record if name != column)
            if column is not None and isinstance(record[column], str):
                yield record[column], {name: record[name] for name in names if name in record}
    except (OSError, pa.ArrowException, csv.Error) as error:
        unread(path, str(getattr(error, "strerror", None) or error).partition("\n")[0])


@lru_cache(64)
def _name_column(names: tuple[str, ...]) -> str | None:
    return next(iter(Columns.of([str(name) for name in names]).role.get("image", [])), None)


def _of_lines(path: str, names: Sequence[str], unread: Unread) -> Iterator[Fields]:
    with io.BufferedReader(open_plain(path)) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                yield record
            else:
                unread(f"{path}:{number}", "no JSON object")


def _of_commas(path: str, names: Sequence[str], unread: Unread) -> Iterator[Fields]:
    plain = io.BufferedReader(open_plain(path))
    with io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(line.replace("\0", "") for line in file)
        header = [cell.strip() for cell in next(rows, [])]
        for cells in rows:
            if len(cells) == len(header):
                yield {name: cell or None for name, cell in zip(header, cells, strict=True)}
            elif cells:
                unread(f"{path}:{rows.line_num}", f"{len(cells)} cells where the header has {len(header)}")


def _of_parquet(path: str, names: Sequence[str], unread: Unread) -> Iterator[Fields]:
    with opened_table(path) as file:
        schema = file.schema_arrow
        column = _name_column(tuple(schema.names))
        wanted = list(dict.fromkeys([*([column] if column else []), *readable_columns(path, schema, names)]))
        for batch in file.iter_batches(ROWS_AT_A_TIME, columns=wanted) if column else ():
            values: dict[str, list[Any]] = {name: batch.column(name).to_pylist() for name in wanted}
            for row in range(batch.num_rows):
                yield {name: values[name][row] for name in wanted}
