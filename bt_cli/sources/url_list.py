"""Lists of images on the web: a text with an address a line, a table with a column of addresses.

Told by content: the first line that says anything has to hold an address, or a table a column of them. A text is
`.txt`, `.urls` or `.lst`; tables are CSV, TSV (with a header or, as Conceptual Captions is published,
without), JSON lines and Parquet. A list is read as it is needed, never whole.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from bt_cli.files.plain_file import read_head
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.parquet_shard import holds_images, opened_table
from bt_cli.sources.tar_shard import opened_file, shard_stamp
from bt_cli.sources.web_address import is_url

SUFFIXES = (".txt", ".urls", ".lst", ".csv", ".tsv", ".jsonl", ".parquet")
"""Of files (lower case) that may be lists."""
COLUMNS = ("url", "image_url", "img_url", "urls", "uri", "image", "link")
"""Names of a column of addresses (lower case), the best first."""
LONGEST_LINE = 1 << 16
"""Characters beyond which a line is none of a list."""
HEAD_BYTES = 1 << 16
ROWS_AT_A_TIME = 4096
TAB = "\t"


@dataclass(frozen=True)
class Listed:
    """One place of a list: an address, or what stands there instead."""

    place: str
    """Such as `urls.txt:7`."""
    url: str | None
    reason: str = ""
    """Why there is no address."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The row by the names of its columns; an empty cell of a CSV is None. Of a Parquet table the columns that were
    asked for."""


def may_be_list(path: str) -> bool:
    """Whether a file is called as lists are."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def is_url_list(path: str) -> bool:
    """Whether a file, here or at an address, is a list of addresses, as its name and its first lines say; no more of it
    is read."""
    if not may_be_list(path):
        return False
    head = _head(path, HEAD_BYTES)
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".parquet" or head[:4] == b"PAR1":
        # Addresses beside images, as img2dataset writes them, are not fetched: the images are there.
        return head[:4] == b"PAR1" and _parquet_column(path) is not None and not holds_images(path)
    if b"\0" in head or not head:
        return False
    text = head.decode("utf-8-sig", "replace")
    lines = text.splitlines(keepends=True)
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()  # cut off within it
    first = next(iter(_entries(path, suffix, lines[:100])), None)
    return first is not None and first.url is not None


def read_url_list(path: str, columns: Sequence[str] = ()) -> Iterator[Listed]:
    """Every place of a list, in order; of a Parquet table with the `columns` of these names that it has.

    Raises:
        OSError: The file can't be read.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".parquet" or _head(path, 4) == b"PAR1":
        yield from _parquet(path, columns)
        return
    with _opened(path) as file:
        yield from _entries(path, suffix, _bounded(file))


def _opened(path: str) -> IO[str]:
    if not is_url(path):
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    file = opened_file(path, shard_stamp(path))
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _head(path: str, length: int) -> bytes:
    if not is_url(path):
        return read_head(path, length)
    try:
        with opened_file(path, shard_stamp(path)) as file:
            return file.read(length)
    except OSError:
        return b""


def _bounded(file: Any) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        yield line


def _entries(path: str, suffix: str, lines: Iterable[str]) -> Iterator[Listed]:
    lines = iter(lines)
    if suffix == ".jsonl":
        return _json_lines(path, lines)
    begun: list[str] = []
    for line in lines:
        begun.append(line)
        if line.strip() and not line.startswith("#"):
            break
    every = itertools.chain(begun, lines)
    if suffix in (".csv", ".tsv") or (begun and _is_table(begun[-1])):
        first = begun[-1] if begun else ""
        return _table(path, every, TAB if suffix == ".tsv" or TAB in first else ",")
    return _text(path, every)


def _is_table(line: str) -> bool:
    """Whether a text's first line is one of tab-separated values with an address among them."""
    cells = line.rstrip("\r\n").split(TAB)
    return len(cells) > 1 and any(is_url(cell.strip()) for cell in cells)


def _text(path: str, lines: Iterable[str]) -> Iterator[Listed]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield _listed(path, number, text)


def _json_lines(path: str, lines: Iterable[str]) -> Iterator[Listed]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            yield Listed(_place(path, number), None, "no JSON object")
            continue
        names = {str(name).lower(): value for name, value in record.items()} if isinstance(record, dict) else {}
        found = next((names[name] for name in COLUMNS if isinstance(names.get(name), str)), None)
        if found is None:
            yield Listed(_place(path, number), None, "no url in it")
        else:
            yield replace(_listed(path, number, found), fields=record)


def _table(path: str, lines: Iterable[str], delimiter: str) -> Iterator[Listed]:
    rows = csv.reader((line.replace("\0", "") for line in lines), delimiter=delimiter)
    column: int | None = None
    header = True
    names: list[str] = []
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Listed(_place(path, rows.line_num), None, str(error))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if column is None:
            column, is_header = _column(cells, header)
            if is_header:
                header, names = False, [cell.strip() for cell in cells]
                continue
            if column is None:
                yield Listed(_place(path, rows.line_num), None, "no address")
                continue
        listed = _listed(path, rows.line_num, cells[column].strip() if column < len(cells) else "")
        yield replace(listed, fields={name: cell or None for name, cell in zip(names, cells, strict=False) if name})


def _column(cells: list[str], may_be_header: bool) -> tuple[int | None, bool]:
    """Which column has the addresses as a row says, by an address or by the column's name; whether it is a header."""
    for place, cell in enumerate(cells):
        if is_url(cell.strip()):
            return place, False
    if not may_be_header:
        return None, False
    names = [cell.strip().lower() for cell in cells]
    return next((names.index(name) for name in COLUMNS if name in names), None), True


def _parquet_column(path: str) -> str | None:
    """The column of addresses of a Parquet table; None where it has none."""
    import pyarrow as pa

    try:
        with opened_table(path) as file:
            schema = file.schema_arrow
            names = {
                field.name.lower(): field.name
                for field in schema
                if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
            }
            for column in (names[name] for name in COLUMNS if name in names):
                first = next(file.iter_batches(64, columns=[column]), None)
                values = [] if first is None else [value for value in first.column(0).to_pylist() if value]
                if values and is_url(values[0].strip()):
                    return column
    except (pa.ArrowException, OSError, ValueError):
        pass
    return None


def _parquet(path: str, columns: Sequence[str]) -> Iterator[Listed]:
    import pyarrow as pa

    column = _parquet_column(path)
    if column is None:
        raise OSError(f"{shown_path(path)}: no column of addresses ({', '.join(COLUMNS)})")
    row = 0
    try:
        with opened_table(path) as file:
            beside = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=list(dict.fromkeys([column, *beside]))):
                others = [batch.column(name).to_pylist() for name in beside]
                for place, value in enumerate(batch.column(column).to_pylist()):
                    listed = _listed(path, row, (value or "").strip())
                    row += 1
                    fields = {name: values[place] for name, values in zip(beside, others, strict=True)}
                    yield replace(listed, fields=fields) if fields else listed
    except pa.ArrowException as error:
        raise OSError(str(error).splitlines()[0]) from error


def _listed(path: str, number: int, text: str) -> Listed:
    if is_url(text) and len(text) < LONGEST_LINE:
        return Listed(_place(path, number), text)
    return Listed(_place(path, number), None, f"no address: {shown_path(text[:60])}" if text else "no address")


def _place(path: str, number: int) -> str:
    return f"{path}:{number}"
