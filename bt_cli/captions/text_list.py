"""Lists of texts within one text, as tables hold several captions in a cell: a JSON list, or Python's or NumPy's way
to print one."""

from __future__ import annotations

import ast
import json
import re

STRING = re.compile(r"""[ubUB]?("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""", re.DOTALL)
BETWEEN = re.compile(r"\s*,\s*|\s+")
"""A comma; NumPy, whose arrays are what pandas has in a column read from Parquet, puts white space alone."""


def text_list(text: str) -> list[str] | None:
    """The texts of a list of texts, `["a", "b"]`, `['a', 'b']` or `['a' 'b']`; None for anything else.

    `[]` is the list of no texts. A list with anything but texts in it, `["a", 1]`, and a sentence that merely begins
    with a bracket, `[laughing] a man`, are none.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _printed_list(text[1:-1].strip())
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None


def _printed_list(inner: str) -> list[str] | None:
    """What stands between the brackets of a list that Python printed; not through its parser, which takes texts without
    a comma between them for one text."""
    found: list[str] = []
    place = 0
    while place < len(inner):
        string = STRING.match(inner, place)
        if string is None:
            return None
        try:
            value = ast.literal_eval(string[1])
        except (ValueError, SyntaxError):
            return None
        found.append(value)
        place = string.end()
        between = BETWEEN.match(inner, place)
        if between is None and place < len(inner):
            return None
        place = between.end() if between else place
    return found
