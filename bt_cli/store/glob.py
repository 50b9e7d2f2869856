"""Globs over the paths of an index: one by one, or over a million at once without a look at each in Python."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])")
_SLASH = 47


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """A function from absolute path to truth; see `IndexFolder.matching`."""
    pattern = _with_what_is_in(pattern)
    if "/" not in pattern:
        name = re.compile(_glob_expression(pattern), re.DOTALL)
        return lambda path: name.fullmatch(os.path.basename(path)) is not None
    if pattern.startswith(("/", "./", "../")):
        expression = _glob_expression(_absolute(pattern))
    else:
        expression = "(?:.*/)?" + _glob_expression(pattern)
    whole = re.compile(expression, re.DOTALL)
    return lambda path: whole.fullmatch(path) is not None


def names_folders(pattern: str) -> bool:
    """Whether a glob is the bare name of folders, such as `@eaDir/`: those below the indexed folders, at any depth."""
    return pattern.endswith("/") and "/" not in pattern[:-1]


def _with_what_is_in(pattern: str) -> str:
    """A glob that ends with a slash, as one of what is in the folders that it names; any other as it is."""
    if not pattern.endswith("/"):
        return pattern
    return f"{'**/' if names_folders(pattern) else ''}{pattern}**"


def matching_rows(pattern: str, home: str, text: NDArray[np.uint8], offsets: NDArray[np.uint64]) -> Numbers:
    """Rows (m,) int64, ascending, whose path a glob matches, as `glob_matcher` says of each.

    Args:
        pattern: The glob.
        home: The folder that relative paths start from, absolute.
        text: Bytes of all paths, one after another.
        offsets: (n + 1,): where each begins, and where the last one ends.
    """
    if names_folders(pattern):
        home = ""  # a folder's bare name means none of those that lead to the pictures: the user's own, /tmp
    pattern = _with_what_is_in(pattern)
    names = _Names(text, np.asarray(offsets, np.int64))
    shape = _Shape.of(pattern)
    if shape is None:
        return _one_by_one(pattern, home, names, _may_match(pattern, names))
    if shape.folder is None:
        return names.with_name(names.all(), shape)
    below = np.zeros(len(names.starts), bool)
    for rows, ends in _below(shape, os.fsencode(home), names):
        below[rows if shape.deep else rows[names.name_starts(rows) == ends]] = True
    return names.with_name(np.flatnonzero(below), shape)


@dataclass(frozen=True)
class _Shape:
    """A glob that plain comparisons decide: a folder without wildcards, or any, and a name, `first*last` or `*middle*`.

    Attributes:
        folder: Bytes up to the last slash, that included; None: any folder.
        whole: The folder is the path's beginning; else it may be any part of it that begins a component.
        deep: The name may lie in any folder below it, too.
        first: How the file's name begins.
        last: How the rest of it ends; None: the name is `first` alone.
        middle: What it holds anywhere, where it may begin and end as it likes.
    """

    folder: bytes | None
    whole: bool
    deep: bool
    first: bytes
    last: bytes | None
    middle: bytes = b""

    @classmethod
    def of(cls, pattern: str) -> _Shape | None:
        """The shape of a glob; None for one that has another."""
        if any("\ud800" <= character <= "\udfff" for character in pattern):
            return None  # stray bytes, which may be part of a character in a name
        whole = pattern.startswith(("/", "./", "../"))
        tokens = [token for token in _WILD.split(_absolute(pattern) if whole else pattern) if token]
        if "/" not in pattern:
            tokens = ["*" if token == "**" else token for token in tokens]
        tokens = [token for place, token in enumerate(tokens) if token != "*" or tokens[place - 1 : place] != ["*"]]
        while not whole and tokens[:1] == ["**/"]:
            tokens = tokens[1:]
        folder = ""
        while tokens and "/" in tokens[0] and tokens[0] != "**/" and not _is_class(tokens[0]):
            before, _, after = tokens[0].rpartition("/")
            folder += before + "/"
            tokens = [after, *tokens[1:]] if after else tokens[1:]
        deep = bool(folder) and tokens[:1] == ["**/"]
        tokens = tokens[deep:]
        if folder and not deep and tokens == ["**"]:
            deep, tokens = True, ["*"]
        if any("/" in token or token in ("**", "?") or _is_class(token) for token in tokens):
            return None
        place = os.fsencode(folder) if folder else None
        if len(tokens) == 3 and tokens[0] == tokens[2] == "*":
            return cls(place, whole, deep, b"", b"", os.fsencode(tokens[1]))
        if tokens.count("*") > 1:
            return None
        star = tokens.index("*") if "*" in tokens else len(tokens)
        last = os.fsencode("".join(tokens[star + 1 :])) if star < len(tokens) else None
        return cls(place, whole, deep, os.fsencode("".join(tokens[:star])), last)


def _is_class(token: str) -> bool:
    """Whether a token is `[...]`."""
    return token.startswith("[") and token.endswith("]") and len(token) > 2


class _Names:
    """The bytes of all paths, compared many at a time."""

    def __init__(self, text: NDArray[np.uint8], offsets: Numbers) -> None:
        self.text = np.ascontiguousarray(text)
        self.starts, self.ends = offsets[:-1], offsets[1:]
        self._found: Numbers | None = None

    def all(self) -> Numbers:
        return np.arange(len(self.starts))

    @property
    def slashes(self) -> Numbers:
        """Where slashes stand in the text, ascending."""
        if self._found is None:
            self._found = np.flatnonzero(self.text == _SLASH)
        return self._found

    def name_starts(self, rows: Numbers) -> Numbers:
        """Where the file's name begins: behind the last slash."""
        if not len(self.slashes):
            return self.starts[rows]
        before = np.searchsorted(self.slashes, self.ends[rows]) - 1
        last = np.where(before >= 0, self.slashes[before], -1)
        return np.maximum(last + 1, self.starts[rows])

    def has(self, positions: Numbers, literal: bytes) -> NDArray[np.bool_]:
        """Whether the text goes on with `literal` at each of the positions; beyond its end it does not."""
        found = positions + len(literal) <= len(self.text)
        left = np.flatnonzero(found)
        done = 0
        for size in (8, 4, 2, 1):
            while len(literal) - done >= size and len(left):
                words = np.ndarray((len(self.text) - size + 1,), f"<u{size}", self.text, strides=(1,))
                equal = words[positions[left] + done] == int.from_bytes(literal[done : done + size], "little")
                left = left[equal]
                done += size
        found[:] = False
        found[left] = True
        return found

    def beginning(self, rows: Numbers, literal: bytes) -> tuple[Numbers, Numbers]:
        """Those of `rows` that begin with `literal`, and where the rest of each begins."""
        starts = self.starts[rows]
        fits = (self.ends[rows] - starts >= len(literal)) & self.has(starts, literal)
        return rows[fits], starts[fits] + len(literal)

    def with_name(self, rows: Numbers, shape: _Shape) -> Numbers:
        """Those of `rows` whose file name is as the shape has it."""
        first, last = shape.first, shape.last
        if shape.middle:
            return self._holding(rows, shape.middle)
        if not first and last == b"":
            return rows
        # A slash has no place in `last`, so where nothing stands before it the whole path may be looked at.
        begins = self.starts[rows] if not first and last is not None else self.name_starts(rows)
        lengths = self.ends[rows] - begins
        fits = lengths == len(first) if last is None else lengths >= len(first) + len(last)
        rows, begins = rows[fits], begins[fits]
        if last:
            fits = self.has(self.ends[rows] - len(last), last)
            rows, begins = rows[fits], begins[fits]
        return rows[self.has(begins, first)]

    def _holding(self, rows: Numbers, middle: bytes) -> Numbers:
        """Those of `rows` in whose file name `middle` stands somewhere."""
        hits = np.flatnonzero(self.text == middle[0])
        hits = hits[self.has(hits, middle)]
        owners = np.searchsorted(self.starts, hits, side="right") - 1
        within = hits + len(middle) <= self.ends[owners]
        hits, owners = hits[within], owners[within]
        holding = np.zeros(len(self.starts), bool)
        holding[owners[hits >= self.name_starts(owners)]] = True
        return rows[holding[rows]]


def _below(shape: _Shape, home: bytes, names: _Names) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows below the shape's folder, and where in the text the rest of each path begins; a row may come twice."""
    folder = shape.folder or b""
    above = home.rstrip(b"/") + b"/" if home else b""
    rooted = names.has(names.starts, b"/") & (names.ends > names.starts)
    absolute, relative = np.flatnonzero(rooted), np.flatnonzero(~rooted)
    if shape.whole:
        yield names.beginning(absolute, folder)
        if folder.startswith(above):
            yield names.beginning(relative, folder[len(above) :])
        elif shape.deep and above.startswith(folder):
            yield names.beginning(relative, b"")
        return
    for rest in _rests(folder, above, shape.deep):
        yield names.beginning(relative, rest)
    yield names.beginning(names.all(), folder)
    begins = names.slashes + 1
    begins = begins[names.has(begins, folder)]
    owners = np.searchsorted(names.starts, begins, side="right") - 1
    inside = begins + len(folder) <= names.ends[owners]
    yield owners[inside], begins[inside] + len(folder)


def _rests(folder: bytes, above: bytes, deep: bool) -> Iterator[bytes]:
    """What of `folder` a relative path has to begin with where the beginning of it is the end of `above`."""
    parts = folder.split(b"/")[:-1]
    for count in range(1, len(parts) + 1):
        if (b"/" + above.lstrip(b"/")).endswith(b"/" + b"/".join(parts[:count]) + b"/"):
            yield b"/".join(parts[count:]) + (b"/" if count < len(parts) else b"")
    if deep and b"/" + folder in b"/" + above:
        yield b""


def _may_match(pattern: str, names: _Names) -> Numbers:
    """Rows that end as the glob does; all, where it ends in a wildcard."""
    last = _WILD.split(_absolute(pattern) if pattern.startswith(("/", "./", "../")) else pattern)[-1]
    ending = last.rpartition("/")[2].encode("utf-8", "surrogateescape")
    return names.with_name(names.all(), _Shape(None, False, False, b"", ending))


def _one_by_one(pattern: str, home: str, names: _Names, rows: Numbers) -> Numbers:
    """Those of `rows` that match, each path looked at."""
    matches = glob_matcher(pattern)
    text, starts, ends = names.text, names.starts[rows].tolist(), names.ends[rows].tolist()
    paths = (os.fsdecode(text[first:last].tobytes()) for first, last in zip(starts, ends, strict=True))
    kept = [row for row, path in zip(rows.tolist(), paths, strict=True) if matches(os.path.join(home, path))]
    return np.array(kept, np.int64)


def _absolute(pattern: str) -> str:
    """A glob that begins at the root, in place of one that begins at the working directory."""
    # The working directory's own name is no pattern, whatever it is.
    return os.path.normpath(os.path.join(glob.escape(os.getcwd()), pattern))


def _glob_expression(pattern: str) -> str:
    """A regular expression for a glob whose single star stays within a path component."""
    pieces = []
    for piece in _WILD.split(pattern):
        if piece in ("**/", "**", "*", "?"):
            pieces.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[piece])
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            pieces.append(fnmatch.translate(piece).removeprefix("(?s:").rsplit(")", 1)[0])
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces)
