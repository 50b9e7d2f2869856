r"""Data on stdout, for programs: one JSON object a line, or one path a line or between NULs.

File names are bytes. A name that is no UTF-8 reaches Python with each stray byte as a lone surrogate (U+DC80 to
U+DCFF); in JSON that is written as its escape, ``\udcNN``, which `json.loads` turns back into the same name, and
`--paths` writes the very bytes. So a name survives `bt search --json | bt rerank` whatever it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any


def write_object(record: Mapping[str, Any]) -> None:
    """Write one JSON object as one line on stdout, flushed where someone is watching."""
    _write(object_line(record))


def object_line(record: Mapping[str, Any]) -> bytes:
    """One JSON object as one line of UTF-8, its line break included; keys in the mapping's order.

    Raises:
        ValueError: A number is NaN or infinite, which JSON does not have.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # The only characters that UTF-8 cannot hold are lone surrogates, and Python's escape for them is JSON's too.
    return line.encode("utf-8", "backslashreplace") + b"\n"


def write_paths(paths: Iterable[str], *, nul: bool = False) -> None:
    """Write file names as the bytes that the file system knows, each ended by a line break or, with `nul`, by a NUL."""
    end = b"\0" if nul else b"\n"
    for path in paths:
        _write(os.fsencode(path) + end)


def write_line(text: str) -> None:
    """Write a line of text on stdout, as UTF-8 whatever the terminal; stray bytes of file names as they are."""
    _write(text.encode("utf-8", "surrogateescape") + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.flush()  # what was printed as text before must stand before it
    sys.stdout.buffer.write(data)
    if sys.stdout.isatty():
        sys.stdout.buffer.flush()
