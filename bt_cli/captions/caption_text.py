"""The text of a caption file: from its bytes, and by lines."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and what they announce; the UTF-32 ones begin like the UTF-16 ones and come before them."""

CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
HEAD = 1024


class CaptionText(NamedTuple):
    """A text, and whether bytes that are no UTF-8 stand in it as lone surrogates (U+DC80 to U+DCFF)."""

    text: str
    has_strays: bool


def decoded(content: bytes) -> CaptionText:
    """UTF-8, with or without a byte order mark, or UTF-16 or 32 with one.

    A byte that is no UTF-8 spoils the caption that it stands in and no other, and in a file's name it is a byte of that
    name: it is left to whoever sees where it stands.

    Raises:
        ValueError: It is no text: broken UTF-16, or the bytes of something else; with the reason, and the number of the
            line as second argument.
    """
    if _is_unmarked_utf16(content[:HEAD]):
        raise ValueError("UTF-16 without a byte order mark, it seems; convert the file to UTF-8", 1)
    mark, encoding = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", "utf-8"))
    body = content[len(mark) :]
    try:
        return CaptionText(body.decode(encoding), False)
    except UnicodeDecodeError as error:
        byte, start = body[error.start], error.start
    if encoding == "utf-8" and not CONTROLS.search(body[:HEAD]):
        return CaptionText(body.decode(encoding, "surrogateescape"), True)
    name = encoding.upper().replace("-LE", "").replace("-BE", "")
    raise ValueError(not_encoded(name, byte), len(lines(body[:start].decode(encoding, "replace") + "x")))


def _is_unmarked_utf16(head: bytes) -> bool:
    """Whether every other byte is a NUL, mostly, as in two-byte letters of the alphabet, and few of the rest are."""
    if head.startswith(tuple(mark for mark, _ in MARKS)):
        return False
    even, odd = (head[start::2].count(0) / max(1, len(head[start::2])) for start in (0, 1))
    return max(even, odd) > 0.6 and min(even, odd) < 0.1


def not_encoded(encoding: str, byte: int) -> str:
    """What is wrong with a byte, and the way out."""
    return f"not {encoding} (byte 0x{byte:02x}); convert the file to UTF-8"


def lines(text: str) -> list[str]:
    r"""Lines ended by \n, \r\n or \r, and by nothing else: U+2028 and the like are part of a caption."""
    return re.split(r"\r\n|\n|\r", text) if "\r" in text else text.split("\n")
