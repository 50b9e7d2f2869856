"""A value of a source's column, as the text that a table keeps."""

from __future__ import annotations

import json
import math
from typing import Any

LONGEST = 1 << 16
"""Characters of a value that is kept. A longer one is left out, null in the table, and counted: half an address would
lead elsewhere."""


def text_of(value: Any) -> str | None:
    r"""A text as it is, anything else as JSON shows it: `5`, `0.5`, `true`, a list or an object in one line; times and
    decimals as Python writes them. None for a null and for a number that is none.

    What UTF-8 can't hold is written `\xNN` for a stray byte, `\udNNN` for half a pair.

    Raises:
        TypeError: There are bytes in it.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value if value.isascii() else _in_utf8(value)
    if isinstance(value, (bool, int, float, list, tuple, dict)):
        return _in_utf8(json.dumps(value, ensure_ascii=False, default=_plain))
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("bytes are no text")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _in_utf8(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
