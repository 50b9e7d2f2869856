"""A caption file's format, told by what it holds, and its captions, or for each entry that can't be read the error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from bt_cli.captions import caption_json, caption_tables
from bt_cli.captions.caption import LONGEST_CAPTION, Caption
from bt_cli.captions.caption_tables import Entry, unreadable
from bt_cli.captions.caption_text import CaptionText, decoded, lines, not_encoded
from bt_cli.errors import UnreadableCaptions
from bt_cli.files.bounded_read import open_file, read_bounded
from bt_cli.files.shown_path import shown_path

LARGEST = 1 << 30
"""Bytes of the largest caption file that is read; Parquet, which is read by parts, may be larger."""
WAY_OUT = "split it, or keep the captions as Parquet, which is read by parts"

HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""A surrogate alone, which JSON's escapes can write and UTF-8 can't."""
HALF_OF_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""U+DC80 to U+DCFF stand for the bytes of a file name that is no UTF-8, and bt itself writes them so."""
PARQUET = b"PAR1"

PACKED = {
    b"\x1f\x8b": "gzip's, compressed; unpack it first (gunzip)",
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "zstd's, compressed; unpack it first (unzstd)",
    b"\xfd7zXZ\0": "xz's, compressed; unpack it first (unxz)",
    b"BZh91AY": "bzip2's, compressed; unpack it first (bunzip2)",
    b"\xd0\xcf\x11\xe0": "an old workbook or document; save it as CSV",
    b"SQLite format 3\0": "a database; write its table as CSV",
    b"%PDF-": "a PDF; captions are text",
}
"""How files begin that may well hold captions, packed in a way that is not read, and the way out."""
SEPARATOR_LINE = re.compile(r'"?sep=[,;|\t]"?[ ,;|\t]*(?=[\r\n])', re.IGNORECASE)
"""What spreadsheets put above a table's header."""

READERS: dict[str, Callable[[str, str], Iterator[Entry]]] = {
    "plain": caption_tables.plain,
    "csv": caption_tables.commas,
    "tsv": caption_tables.tabs,
    "token": caption_tables.token,
    "jsonl": caption_json.json_lines,
}


def parse_file(path: str, format: str | None) -> tuple[str, Iterator[Entry]]:
    """The format of a file (`format` if given), and its captions as they are read.

    Raises:
        NotFound: There is no such file.
        UnreadableCaptions: It is no file, is larger than `LARGEST`, or can't be read as a whole.
    """
    head = _head(path)
    _refuse_nul(head, path)
    if head == PARQUET and format in (None, "parquet"):
        return "parquet", sound(caption_tables.parquet(path), path, "parquet", False)
    content = read_bounded(path, UnreadableCaptions, LARGEST, WAY_OUT)
    if format == "parquet" or (format is None and content.startswith(PARQUET)):
        return "parquet", sound(caption_tables.parquet(path, content), path, "parquet", False)
    packed = next((what for mark, what in PACKED.items() if content.startswith(mark)), None)
    if packed is not None:
        raise UnreadableCaptions(f"{shown_path(path)}: {packed}")
    text, strays = _text_of(content, path)
    del content
    text = SEPARATOR_LINE.sub("", text, count=1) if SEPARATOR_LINE.match(text) else text
    format = format or _format_of(text)
    entries = READERS[format](text, path) if format in READERS else caption_json.document(text, path, format)
    return format, sound(entries, path, format, strays)


def _head(path: str) -> bytes:
    """The first bytes of a file; none of a pipe, which can be read but once."""
    with open_file(path, UnreadableCaptions) as file:
        try:
            return file.read(len(PARQUET)) if file.seekable() else b""
        except OSError:
            return b""


def _text_of(content: bytes, path: str) -> CaptionText:
    _refuse_nul(content[: len(PARQUET)], path)
    try:
        return decoded(content)
    except ValueError as error:
        reason, line = error.args
        raise unreadable(path, line, reason) from None


def _refuse_nul(head: bytes, path: str) -> None:
    if head.startswith(b"\0") and head != b"\0\0\xfe\xff":  # which is the byte order mark of UTF-32
        raise UnreadableCaptions(f"{shown_path(path)}: begins with a NUL byte, and is no text")


def _format_of(text: str) -> str:
    filled = [line for line in lines(text) if line.strip()]
    kind = caption_json.json_format(text, filled)
    if kind is not None:
        return kind
    if filled and caption_tables.TOKEN.fullmatch(filled[0]):
        return "token"
    for format in ("tsv", "csv"):
        if caption_tables.delimiter_of(filled, format) is not None:
            return format
    return "plain"


def sound(entries: Iterator[Entry], path: str, format: str, strays: bool) -> Iterator[Entry]:
    """The entries of a file, a caption only if whatever comes after can write its texts down and look for its image."""
    for entry in entries:
        reason = unsound(entry, strays) if isinstance(entry, Caption) else None
        if reason is not None:
            assert isinstance(entry, Caption)
            assert entry.line is not None
            yield unreadable(path, entry.line, reason, format)
        else:
            yield entry


def unsound(item: Caption, strays: bool) -> str | None:
    """What is wrong with a caption, if anything is."""
    for text in (item.text, *item.negatives):
        if len(text) > LONGEST_CAPTION:
            return f"a caption of {len(text):,} characters; more than {LONGEST_CAPTION:,} are not read as one"
        if "\0" in text:
            return "a NUL character in the caption; remove it"
        half = HALF_CHARACTER.search(text)
        if half and strays and 0xDC80 <= ord(half[0]) <= 0xDCFF:
            return not_encoded("UTF-8", ord(half[0]) - 0xDC00)
        if half:
            return f"half a character ({ascii(half[0])[1:-1]}) in the caption, as where an emoji is cut; remove it"
    for name in (item.image, item.image_id, item.caption_id, item.split):
        half = HALF_OF_NAME.search(name or "")
        if half:
            return f"{ascii(half[0])[1:-1]} in {shown_path(name or '')[:200]}: no character that a name can have"
    return None
