"""Globs over the paths of an index."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """A function from absolute path to truth; see `IndexFolder.matching`."""
    if pattern.endswith("/"):
        return glob_matcher(f"{'' if '/' in pattern[:-1] else '**/'}{pattern}**")
    if "/" not in pattern:
        name = re.compile(_glob_expression(pattern), re.DOTALL)
        return lambda path: name.fullmatch(os.path.basename(path)) is not None
    if pattern.startswith(("/", "./", "../")):
        # The working directory's own name is no pattern, whatever it is.
        expression = _glob_expression(os.path.normpath(os.path.join(glob.escape(os.getcwd()), pattern)))
    else:
        expression = "(?:.*/)?" + _glob_expression(pattern)
    whole = re.compile(expression, re.DOTALL)
    return lambda path: whole.fullmatch(path) is not None


def _glob_expression(pattern: str) -> str:
    """A regular expression for a glob whose single star stays within a path component."""
    pieces = []
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern):
        if piece in ("**/", "**", "*", "?"):
            pieces.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[piece])
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            pieces.append(fnmatch.translate(piece).removeprefix("(?s:").rsplit(")", 1)[0])
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces)
