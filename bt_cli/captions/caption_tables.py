"""Captions in lines and rows: plain text, Flickr's token files, comma- and tab-separated tables.

Each reader yields what it reads, and for a line that can't be read the error that names it.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from bt_cli.captions.caption import LONGEST_CAPTION, Caption, shown_place
from bt_cli.captions.caption_columns import Columns, captions_of_fields
from bt_cli.captions.caption_text import lines
from bt_cli.datasets.image_folder import IMAGE_SUFFIXES
from bt_cli.errors import UnreadableCaptions
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.arrow_shard import batches, schema_of
from bt_cli.sources.parquet_shard import opened_table

Entry = Caption | UnreadableCaptions
"""A caption, or why there is none."""

TOKEN = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<text>.*)")
SEEN_ROWS = 20
"""Rows below a line that tell whether it is their header."""
DELIMITERS = {"csv": ",;|", "tsv": "\t"}
LONGEST_CELL = 1 << 24
REREADS = 10
"""How often a table may be read over, in all, because of quotes that are never closed."""


def unreadable(path: str, number: int, reason: str, format: str = "plain") -> UnreadableCaptions:
    """The error for an entry of a caption file."""
    return UnreadableCaptions(f"{shown_place(path, number, format)}: {reason}")


def captions_or_error(
    columns: Columns, fields: dict[str, Any], path: str, number: int, format: str = "plain"
) -> list[Entry]:
    """The captions of a row or object, or the error that says why there is none."""
    try:
        return list(captions_of_fields(columns, fields, number))
    except ValueError as error:
        return [unreadable(path, number, str(error), format)]
    except RecursionError:
        return [unreadable(path, number, "lists in lists, nested too deep", format)]


def plain(text: str, path: str) -> Iterator[Entry]:
    """One caption a line."""
    for number, line in enumerate(lines(text), 1):
        if line.strip():
            yield Caption(line.strip(), line=number)


def token(text: str, path: str) -> Iterator[Entry]:
    """`name.jpg#0`, a tab, the caption."""
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        match = TOKEN.fullmatch(line)
        if match is None or not match["text"].strip():
            yield unreadable(path, number, "not of the form name.jpg#0<TAB>caption")
            continue
        name = match["image"].strip()
        yield Caption(match["text"].strip(), name, name, f"{name}#{match['number']}", line=number)


def tabs(text: str, path: str) -> Iterator[Entry]:
    """A tab-separated table."""
    return _rows(_tab_records(lines(text)), path)


def commas(text: str, path: str) -> Iterator[Entry]:
    """A table separated by commas, semicolons or bars."""
    found = lines(text)
    delimiter = delimiter_of([line for line in found if line.strip()], "csv") or ","
    return _rows(_records(found, delimiter, path), path, padded=delimiter == "|")


def delimiter_of(lines: list[str], format: str) -> str | None:
    """What separates the cells of a table of these lines, none of them blank; None if they are no table."""
    for delimiter in DELIMITERS[format] if lines else "":
        cells = _cells_of_line(lines[0], delimiter)
        if len(cells) == 1 and format == "tsv":
            continue
        if _is_header(cells, lines, delimiter) or _is_bare_pair(cells):
            return delimiter
    return None


def _is_header(cells: list[str], lines: list[str], delimiter: str) -> bool:
    """Whether the first line is the header of a table, and no caption that begins with a column's name.

    Captions have commas, too, "Text, logo, sign", but other things than a header has: a space after each comma, words
    that name no column, and below them lines that are no rows. A line of known names alone, as `image,caption`, is a
    header. Any other one needs rows below it, of which half have the separator; and where it is written like a
    sentence, or has words beside the captions' column alone that name nothing, half have as many cells as it has.
    """
    columns = Columns.of(cells)
    if not columns.is_header:
        return False
    like_a_sentence = delimiter != "|" and delimiter in lines[0] and not re.search(rf"{delimiter}(?! )", lines[0])
    if columns.all_known and not like_a_sentence:
        return True
    rows = _first_rows(lines, delimiter)
    cut = sum(len(row) > 1 for row in rows)
    fitting = sum(len(row) == len(cells) for row in rows)
    if not rows or 2 * cut < len(rows):
        return False
    if columns.all_known:
        return True
    alone = len(columns.role) == 1
    if not columns.all_words or like_a_sentence or alone:
        return 2 * fitting >= len(rows) and not (like_a_sentence and alone)
    return True


def _first_rows(lines: list[str], delimiter: str) -> list[list[str]]:
    """The cells of the first rows below the first line."""
    if delimiter == "\t":
        return [cells for _, cells in itertools.islice(_tab_records(lines[: 4 * SEEN_ROWS]), 1, SEEN_ROWS + 1)]
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
    rows: list[list[str]] = []
    try:
        rows.extend(itertools.islice(reader, 1, SEEN_ROWS + 1))
    except csv.Error:
        pass
    return rows


def _is_bare_pair(cells: list[str]) -> bool:
    """Whether a line without a header above it holds an image's name and a caption."""
    return len(cells) >= 2 and os.path.splitext(cells[0].strip())[1].lower() in IMAGE_SUFFIXES


def _cells_of_line(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return next(_tab_records([line]))[1]
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def _tab_records(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(line at which it begins, cells) of each record of a tab-separated table.

    Quotes count only around the whole of a cell, as spreadsheets write them; such a cell may have line breaks in it,
    but no tab where it has one: that would be a row of its own, below a cell that merely begins with a quote.
    """
    place = 0
    while place < len(lines):
        begin, cells = place, []
        rest: str | None = lines[place]
        place += 1
        if not (rest or "").strip():
            continue
        while rest is not None:
            cell, tab, rest_of_line = rest.partition("\t")
            rest = rest_of_line if tab else None
            if cell.startswith('"'):
                quote = _closing_quote(cell, 1)
                if quote == len(cell) - 1 and quote > 0:
                    cell = cell[1:-1].replace('""', '"')
                elif quote < 0 and rest is None and (closed := _over_lines(cell, lines, place)) is not None:
                    cell, rest, place = closed
            cells.append(cell)
        yield begin + 1, cells


def _over_lines(cell: str, lines: list[str], place: int) -> tuple[str, str | None, int] | None:
    """(the whole cell, what follows it on its last line, the next line) of a quoted cell whose first line is `cell`;
    None where no quote closes it."""
    parts, length = [cell[1:]], len(cell)
    while place < len(lines) and length <= LONGEST_CAPTION:
        line = lines[place]
        place += 1
        quote = _closing_quote(line, 0)
        inner = line if quote < 0 else line[:quote]
        if "\t" in inner:
            return None
        parts.append(inner)
        length += len(inner) + 1
        if quote >= 0:
            after = line[quote + 1 :]
            if after and not after.startswith("\t"):
                return None
            return "\n".join(parts).replace('""', '"'), after[1:] if after else None, place
    return None


def _closing_quote(text: str, place: int) -> int:
    """Where the first quote that is not doubled stands, or -1."""
    while (place := text.find('"', place)) >= 0 and text.startswith('""', place):
        place += 2
    return place


def _records(lines: list[str], delimiter: str, path: str) -> Iterator[tuple[int, list[str] | UnreadableCaptions]]:
    """(line at which it begins, cells) of each record; a quoted cell may run over several lines.

    Behind a record with broken quotes the next line is read as a new one, wherever its quote would have led.
    """
    limit = csv.field_size_limit(LONGEST_CELL)
    start, budget = 0, REREADS * len(lines)
    try:
        while start < len(lines):
            following = (lines[number] + "\n" for number in range(start, len(lines)))
            reader = csv.reader(following, delimiter=delimiter, skipinitialspace=True, strict=True)
            begin = start
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield begin + 1, cells
                    begin = start + reader.line_num
                return
            except csv.Error as error:
                budget -= reader.line_num + start - begin - 1
                reason = f"{error} (a quote that is not closed, or one within a cell that is not doubled?)"
                if budget < 0:
                    raise unreadable(path, begin + 1, f"{reason}; too many rows are like this") from None
                yield begin + 1, unreadable(path, begin + 1, reason)
                start = begin + 1
    finally:
        csv.field_size_limit(limit)


def _rows(records: Iterator[tuple[int, Any]], path: str, *, padded: bool = False) -> Iterator[Entry]:
    """The captions of a table; where its cells are `padded` the white space around them is none of theirs."""
    columns: Columns | None = None
    for number, cells in records:
        if isinstance(cells, UnreadableCaptions):
            yield cells
            continue
        if columns is None:
            columns = Columns.of(cells)
            if not columns.has_caption:
                if not _is_bare_pair(cells):
                    raise unreadable(path, number, "no column for captions in the header (caption, text, sentence ...)")
                columns = Columns.of(["image", "caption"])
            else:
                refuse_doubled(columns, shown_place(path, number, "csv"))
                continue
        if len(cells) != len(columns.names):
            hint = "; a caption with a separator in it needs quotes" if len(cells) > len(columns.names) else ""
            yield unreadable(path, number, f"{len(cells)} cells where the header has {len(columns.names)}{hint}")
            continue
        fields = dict(zip(columns.names, (cell.strip() for cell in cells) if padded else cells, strict=True))
        yield from captions_or_error(columns, fields, path, number)


def refuse_doubled(columns: Columns, place: str) -> None:
    """Raises UnreadableCaptions where two columns of interest have one name."""
    if columns.doubled is not None:
        way_out = "give each a name of its own; caption_1, caption_2 ... are read as several captions"
        raise UnreadableCaptions(f"{place}: two columns are called {columns.doubled!r}; {way_out}")


def parquet(path: str, content: bytes | None = None) -> Iterator[Entry]:
    """A Parquet table; of its columns only those are read that hold anything of interest, of images inside only
    their paths."""
    yield from _parquet(path, content, names_images=True)


def parquet_of_images(path: str) -> Iterator[Entry]:
    """The captions beside the images of a Parquet file; they name none, each belongs to the image of its row."""
    yield from _parquet(path, None, names_images=False)


def arrow_of_images(path: str) -> Iterator[Entry]:
    """As `parquet_of_images`, of an Arrow file."""
    import pyarrow as pa

    try:
        schema = schema_of(path)
        columns = _columns(schema, path, names_images=False)
        yield from _of_batches(_sound_batches(path, columns.used), columns, path, "arrow")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _not_read(path, "no whole Arrow file", error) from error


def _sound_batches(path: str, wanted: list[str]) -> Iterator[Any]:
    for batch in batches(path):
        selected = batch.select(wanted)
        selected.validate()  # places beyond the file's end would be read otherwise
        yield selected


def _parquet(path: str, content: bytes | None, *, names_images: bool) -> Iterator[Entry]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = opened_table(path) if content is None else pyarrow.parquet.ParquetFile(pa.BufferReader(content))
        columns = _columns(table.schema_arrow, path, names_images=names_images)
        found = table.iter_batches(1024, columns=_leaves(table.schema_arrow, columns))
        yield from _of_batches(found, columns, path, "parquet")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _not_read(path, "no Parquet", error) from error


def _not_read(path: str, what: str, error: Exception) -> UnreadableCaptions:
    """The error for a table that can't be opened: the system's or the network's reason, else that it is none."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return UnreadableCaptions(f"{shown_path(path)}: {error.strerror}")
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return UnreadableCaptions(f"{shown_path(path)}: {what}: {first_line}")


def _columns(schema: Any, path: str, *, names_images: bool) -> Columns:
    columns = Columns.of(schema.names)
    if not names_images:
        columns.role.pop("image", None)
    if not columns.has_caption:
        raise UnreadableCaptions(
            f"{shown_path(path)}: no column for captions (caption, text, sentence ...) among {', '.join(columns.names)}"
        )
    refuse_doubled(columns, shown_path(path))
    return columns


def _of_batches(found: Iterable[Any], columns: Columns, path: str, format: str) -> Iterator[Entry]:
    number = 0
    for batch in found:
        for fields in _rows_of_batch(batch):
            number += 1
            if isinstance(fields, str):
                yield unreadable(path, number, f"a value that can't be read: {fields}", format)
            else:
                yield from captions_or_error(columns, fields, path, number, format)


def _leaves(schema: Any, columns: Columns) -> list[str]:
    """The columns to read: of an image that is a struct of bytes and path only the path."""
    import pyarrow as pa

    images = set(columns.role.get("image", []))
    wanted = []
    for name in columns.used:
        kind = schema.field(name).type
        has_path = name in images and pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
        wanted.append(f"{name}.path" if has_path else name)
    return wanted


def _rows_of_batch(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for one with text that is no UTF-8 or a date beyond Python's, the reason."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass
    for offset in range(batch.num_rows):
        try:
            yield from batch.slice(offset, 1).to_pylist()
        except (ValueError, OverflowError) as error:
            yield str(error)
