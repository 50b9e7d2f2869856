"""The caption formats, one function each: from a file's bytes to captions, or to the line that can't be read."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from bt_cli.datasets.caption import Caption, shown_place
from bt_cli.datasets.caption_columns import Columns, caption_of_fields
from bt_cli.datasets.image_folder import IMAGE_SUFFIXES
from bt_cli.errors import UnreadableCaptions
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import pyarrow as pa

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and what they announce; the UTF-32 ones begin like the UTF-16 ones and come before them."""

TOKEN = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<text>.*)")
JSON_START = re.compile(r'\s*(\{\s*("|\})|\[\s*(\{|\]))')
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""A surrogate alone, which JSON's escapes can write and UTF-8 can't."""
HALF_OF_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""U+DC80 to U+DCFF stand for the bytes of a file name that is no UTF-8, and bt itself writes them so."""
TEXT_LIST_START = re.compile(r'\s*\[\s*"')
SEEN_ROWS = 5
"""Lines that tell a table's header from a caption with commas in it."""
DELIMITERS = {"csv": ",;|", "tsv": "\t"}
LONGEST_CELL = 1 << 24


def parse(content: bytes, path: str, format: str | None) -> tuple[str, list[Caption]]:
    """The format of a file (`format` if given) and its captions.

    Raises:
        UnreadableCaptions: Names the line.
    """
    if format == "parquet" or (format is None and content[:4] == b"PAR1"):
        return "parquet", _sound(_parquet(content, path), path, "parquet")
    text = _decoded(content, path)
    format = format or _format_of(text)
    readers = {"plain": _plain, "csv": _table, "tsv": _tabs, "token": _token, "jsonl": _json_lines}
    captions = readers[format](text, path) if format in readers else _document(text, path, format)
    return format, _sound(captions, path, format)


def _sound(captions: Iterator[Caption], path: str, format: str) -> list[Caption]:
    """The captions, if whatever comes after can write their texts down and look for their images."""
    checked = []
    for item in captions:
        assert item.line is not None
        for text in (item.text, *item.negatives):
            half = HALF_CHARACTER.search(text)
            if half:
                reason = (
                    f"half a character ({ascii(half[0])[1:-1]}) in the caption, as where an emoji is cut; remove it"
                )
                _refuse(path, item.line, reason, format)
        for name in (item.image, item.image_id, item.caption_id, item.split):
            half = HALF_OF_NAME.search(name or "")
            if half:
                reason = f"{ascii(half[0])[1:-1]} in {shown_path(name or '')}: no character that a name can have"
                _refuse(path, item.line, reason, format)
        checked.append(item)
    return checked


def _decoded(content: bytes, path: str) -> str:
    mark, encoding = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", "utf-8"))
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "replace")
        line = len(_lines(before + "x"))
        name = encoding.upper().replace("-LE", "").replace("-BE", "")
        _refuse(path, line, f"not {name} (byte 0x{error.object[error.start]:02x}); convert the file to UTF-8")


def _lines(text: str) -> list[str]:
    r"""Lines ended by \n, \r\n or \r, and by nothing else: U+2028 and the like are part of a caption."""
    return re.split(r"\r\n|\n|\r", text)


def _format_of(text: str) -> str:
    lines = [line for line in _lines(text) if line.strip()]
    first = lines[0] if lines else ""
    if JSON_START.match(text):
        return _json_kind(text, lines)
    if TEXT_LIST_START.match(text) and _is_list(text):
        return "json"
    if TOKEN.fullmatch(first):
        return "token"
    for format in ("tsv", "csv"):
        if _delimiter(lines, format) is not None:
            return format
    return "plain"


def _is_list(text: str) -> bool:
    try:
        return isinstance(_json(text), list)
    except ValueError:
        return False


def _json_kind(text: str, lines: list[str]) -> str:
    first = lines[0]
    try:
        row = _json(first)
    except ValueError:
        row = None
    if isinstance(row, dict) and (len(lines) > 1 or not ("annotations" in row or isinstance(row.get("images"), list))):
        return "jsonl"
    if row is None and _is_object_line(first):
        return "jsonl"  # its first line is broken, and will be named
    if text.lstrip().startswith("["):
        return "json"
    keys = set(re.findall(r'"(annotations|sentences)"\s*:', text))
    return "coco" if "annotations" in keys and "sentences" not in keys else "karpathy"


def _is_object_line(line: str) -> bool:
    """Whether a line has the outline of a whole JSON object although it is none."""
    return len(line.strip()) > 2 and line.strip().startswith("{") and line.strip().endswith("}")


def _plain(text: str, path: str) -> Iterator[Caption]:
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            yield Caption(line.strip(), line=number)


def _token(text: str, path: str) -> Iterator[Caption]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        match = TOKEN.fullmatch(line)
        if match is None or not match["text"].strip():
            _refuse(path, number, "not of the form name.jpg#0<TAB>caption")
        name = match["image"].strip()
        yield Caption(
            match["text"].strip(), image=name, image_id=name, caption_id=f"{name}#{match['number']}", line=number
        )


def _delimiter(lines: list[str], format: str) -> str | None:
    """What separates the cells of a table of these lines, none of them blank; None if they are no table."""
    for delimiter in DELIMITERS[format] if lines else "":
        cells = _cells_of_line(lines[0], delimiter)
        if len(cells) == 1 and format == "tsv":
            continue
        columns = Columns.of(cells)
        # A caption may begin with a column's name and have a comma: "Text, logo and sign".
        if columns.is_header and (columns.all_named or _rows_fit(lines, delimiter, len(cells))):
            return delimiter
        if _is_bare_pair(cells):
            return delimiter
    return None


def _rows_fit(lines: list[str], delimiter: str, width: int) -> bool:
    """Whether the first lines are rows of so many cells, and more than one."""
    if delimiter == "\t":
        rows = [_cells_of_line(line, delimiter) for line in lines[:SEEN_ROWS]]
    else:
        reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
        try:
            rows = list(itertools.islice(reader, SEEN_ROWS))
        except csv.Error:
            return False
    return len(rows) > 1 and all(len(row) == width for row in rows)


def _is_bare_pair(cells: list[str]) -> bool:
    """Whether a line without a header above it holds an image's name and a caption."""
    return len(cells) >= 2 and os.path.splitext(cells[0].strip())[1].lower() in IMAGE_SUFFIXES


def _cells_of_line(line: str, delimiter: str) -> list[str]:
    if delimiter == "\t":
        return [_unquoted(cell) for cell in line.split("\t")]
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def _unquoted(cell: str) -> str:
    """A tab-separated cell: quotes count only around the whole of it, as spreadsheets write them."""
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _tabs(text: str, path: str) -> Iterator[Caption]:
    rows = ((number, _cells_of_line(line, "\t")) for number, line in enumerate(_lines(text), 1) if line.strip())
    yield from _rows(rows, path)


def _table(text: str, path: str) -> Iterator[Caption]:
    lines = _lines(text)
    delimiter = _delimiter([line for line in lines if line.strip()], "csv") or ","
    yield from _rows(_records(lines, delimiter, path), path)


def _records(lines: list[str], delimiter: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """(line at which it begins, cells) of each record; a quoted cell may run over several lines."""
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    limit = csv.field_size_limit(LONGEST_CELL)
    begin = 1
    try:
        while True:
            begin = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            if any(cell.strip() for cell in cells):
                yield begin, cells
    except csv.Error as error:
        _refuse(path, begin, f"{error} (a quote that is not closed, or one within a cell that is not doubled?)")
    finally:
        csv.field_size_limit(limit)


def _rows(rows: Iterator[tuple[int, list[str]]], path: str) -> Iterator[Caption]:
    columns: Columns | None = None
    for number, cells in rows:
        if columns is None:
            columns = Columns.of(cells)
            if not columns.has_caption:
                if not _is_bare_pair(cells):
                    _refuse(path, number, "no column for captions in the header (caption, text, sentence ...)")
                columns = Columns.of(["image", "caption"])
            else:
                _refuse_doubled(columns, shown_place(path, number, "csv"))
                continue
        if len(cells) != len(columns.names):
            hint = "; a caption with a separator in it needs quotes" if len(cells) > len(columns.names) else ""
            _refuse(path, number, f"{len(cells)} cells where the header has {len(columns.names)}{hint}")
        yield from _captions(columns, dict(zip(columns.names, cells, strict=True)), path, number)


def _refuse_doubled(columns: Columns, place: str) -> None:
    if columns.doubled is not None:
        way_out = "give each a name of its own; caption_1, caption_2 ... are read as several captions"
        raise UnreadableCaptions(f"{place}: two columns are called {columns.doubled!r}; {way_out}")


def _captions(columns: Columns, fields: dict[str, Any], path: str, number: int) -> Iterator[Caption]:
    try:
        yield from caption_of_fields(columns, fields, number)
    except ValueError as error:
        _refuse(path, number, str(error))


def _json_lines(text: str, path: str) -> Iterator[Caption]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            fields = _json(line)
        except ValueError as error:
            _refuse(path, number, f"no JSON: {getattr(error, 'msg', error)}")
        if not isinstance(fields, dict):
            _refuse(path, number, "no JSON object")
        yield from _captions(Columns.of(fields), fields, path, number)


def _json(text: str) -> Any:
    """What a JSON text holds; ValueError for whatever Python's reader can't take, with a line of reason."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # Python limits the digits that it reads as one number
        raise ValueError("a whole number of thousands of digits; write it as a text, in quotes") from None


def _document(text: str, path: str, format: str) -> Iterator[Caption]:
    try:
        document = _json(text)
    except json.JSONDecodeError as error:
        line = len(_lines(text[: error.pos] + "x"))
        _refuse(path, line, f"no JSON: {error.msg}")
    except ValueError as error:
        raise UnreadableCaptions(f"{shown_path(path)}: no JSON: {error}") from None
    kind = {"coco": _coco, "karpathy": _karpathy, "json": _json_list}[format]
    yield from kind(document, path)


def _json_list(document: Any, path: str) -> Iterator[Caption]:
    if not isinstance(document, list):
        raise UnreadableCaptions(f"{shown_path(path)}: no JSON list of objects or texts")
    for number, fields in enumerate(document, 1):
        if isinstance(fields, str) and fields.strip():
            yield Caption(fields.strip(), line=number)
            continue
        if not isinstance(fields, dict):
            _refuse(path, number, "no JSON object" if fields != "" else "no caption", "json")
        try:
            yield from caption_of_fields(Columns.of(fields), fields, number)
        except ValueError as error:
            _refuse(path, number, str(error), "json")


def _coco(document: Any, path: str) -> Iterator[Caption]:
    images = document.get("images", []) if isinstance(document, dict) else None
    annotations = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UnreadableCaptions(f"{shown_path(path)}: no COCO captions: 'images' and 'annotations' are to be lists")
    described = [image for image in images if isinstance(image, dict) and isinstance(image.get("id"), (int, str))]
    names = {image["id"]: image.get("file_name") for image in described}
    for number, annotation in enumerate(annotations, 1):
        fields = annotation if isinstance(annotation, dict) else {}
        caption = fields.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            _refuse(path, number, "no caption", "coco")
        image_id = fields.get("image_id")
        if not isinstance(image_id, (int, str)) or not isinstance(names.get(image_id), str):
            _refuse(path, number, f"its image {image_id!r} is not among the images", "coco")
        yield Caption(caption.strip(), names[image_id], str(image_id), _text(fields.get("id")), line=number)


def _karpathy(document: Any, path: str) -> Iterator[Caption]:
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise UnreadableCaptions(f"{shown_path(path)}: neither COCO's nor Karpathy's JSON: it has no list 'images'")
    for number, image in enumerate(images, 1):
        if not isinstance(image, dict) or not isinstance(image.get("filename", image.get("file_name")), str):
            _refuse(path, number, "no filename", "karpathy")
        name = image.get("filename", image.get("file_name"))
        folder = image.get("filepath")
        name = f"{folder}/{name}" if isinstance(folder, str) and folder else name
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            _refuse(path, number, "no list of sentences", "karpathy")
        for sentence in sentences:
            raw = sentence.get("raw") if isinstance(sentence, dict) else None
            if not isinstance(raw, str) or not raw.strip():
                _refuse(path, number, "a sentence without its raw text", "karpathy")
            image_id = _text(image.get("imgid", image.get("cocoid"))) or name
            yield Caption(
                raw.strip(), name, image_id, _text(sentence.get("sentid")), split=_text(image.get("split")), line=number
            )


def _parquet(content: bytes, path: str) -> Iterator[Caption]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(pa.BufferReader(content))
        columns = Columns.of(table.schema_arrow.names)
        if not columns.has_caption:
            raise UnreadableCaptions(
                f"{shown_path(path)}: no column for captions (caption, text, sentence ...) "
                f"among {', '.join(columns.names)}"
            )
        _refuse_doubled(columns, shown_path(path))
        number = 0
        for batch in table.iter_batches(4096, columns=columns.used):
            for fields in _parquet_rows(batch, path, number):
                number += 1
                try:
                    yield from caption_of_fields(columns, fields, number)
                except ValueError as error:
                    _refuse(path, number, str(error), "parquet")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableCaptions(f"{shown_path(path)}: no Parquet: {str(error).splitlines()[0]}") from error


def _parquet_rows(batch: pa.RecordBatch, path: str, before: int) -> list[dict[str, Any]]:
    """The rows of a batch that follows `before` others; text that is no UTF-8 and dates beyond Python's are refused."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        for offset in range(batch.num_rows):
            try:
                batch.slice(offset, 1).to_pylist()
            except (ValueError, OverflowError) as error:
                _refuse(path, before + offset + 1, f"a value that can't be read: {error}", "parquet")
        raise


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _refuse(path: str, number: int, reason: str, format: str = "plain") -> NoReturn:
    raise UnreadableCaptions(f"{shown_place(path, number, format)}: {reason}")
