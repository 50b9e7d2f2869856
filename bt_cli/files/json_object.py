"""Reading a file that has to hold one JSON object: a configuration, a recipe, a vocabulary."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from bt_cli.errors import BtError, NotFound
from bt_cli.files.bounded_read import at_most
from bt_cli.files.plain_file import is_plain, open_plain
from bt_cli.files.shown_path import shown_path

LARGEST = 64 * 2**20
"""Bytes of the largest file that is read whole; a vocabulary of 250,000 words with its merges takes 17 MiB."""
SETTINGS = 4 * 2**20
"""And of one that holds settings: as Python's objects, JSON may take twenty times its bytes."""


def read_json_object(
    path: str | os.PathLike[str],
    error: type[BtError],
    *,
    missing: str = "no such file",
    missing_error: type[BtError] = NotFound,
    way_out: str = "",
    limit: int = LARGEST,
) -> dict[str, Any]:
    """The JSON object that a file holds; every refusal is one line that begins with the file.

    Numbers are finite and fit a float: what Python would read as NaN or Infinity (`NaN`, `1e999`), or as a whole number
    of hundreds of digits, passes many a check of a range only to fail far from here.

    Args:
        path: The file.
        error: Raised for a file that can't be read, is no JSON, or holds something else than an object.
        missing: What is said of a file that does not exist.
        missing_error: And what is raised then.
        way_out: What helps against a file that is no JSON, such as "fetch the file again".
        limit: The most bytes that are read.
    """
    text = read_text_file(path, error, missing=missing, missing_error=missing_error, limit=limit)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as reason:  # no JSON, a number of thousands of digits, nested a thousand deep
        fix = f"; {way_out}" if way_out else ""
        raise error(f"{shown_path(path)}: not valid JSON ({reason}){fix}") from None
    if not isinstance(values, dict):
        raise error(f"{shown_path(path)}: holds {_kind(values)}, but has to be a JSON object")
    found = _not_finite(values)
    if found is not None:
        key, number = found
        raise error(f"{shown_path(path)}: {key} is {number}, but has to be a number that fits 64-bit floating point")
    return values


def read_text_file(
    path: str | os.PathLike[str],
    error: type[BtError],
    *,
    missing: str = "no such file",
    missing_error: type[BtError] = NotFound,
    limit: int = LARGEST,
) -> str:
    """The text of a plain file of at most `limit` bytes, as UTF-8 with or without a byte order mark.

    A device or a pipe under the name of a small file has no end, or never begins: neither is opened. Arguments as for
    :func:`read_json_object`.
    """
    path, shown = Path(path), shown_path(path)
    try:
        if not is_plain(os.stat(path)):
            raise error(f"{shown}: not a regular file")
        with open_plain(path) as file:
            data = at_most(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise missing_error(f"{shown}: {missing}") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f"{shown}: can't be read: {getattr(reason, 'strerror', None) or reason}") from None
    if len(data) > limit:
        raise error(f"{shown}: more than {limit // 2**20} MiB, too large for what it is named")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{shown}: not UTF-8 text (byte {reason.start})") from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _not_finite(values: dict[str, Any]) -> tuple[str, str] | None:
    """The first number that is NaN, infinite or beyond any float, by its key (`rates.betas[1]`), and as it is said."""
    waiting: list[tuple[str, Any]] = [(name, value) for name, value in reversed(values.items())]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return key, str(value)
        if isinstance(value, int) and value.bit_length() > sys.float_info.max_exp:
            return key, f"a number of {len(str(abs(value)))} digits"
        if isinstance(value, dict):
            waiting += [(f"{key}.{name}", inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{key}[{place}]", inner) for place, inner in reversed(list(enumerate(value)))]
    return None
