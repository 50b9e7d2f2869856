"""Globs over the paths of an index: one by one, or over a million at once without a look at each in Python."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bt_cli.files.processors import processor_count
from bt_cli.paths.path_text import Chunk, Numbers, PathText

_WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])")
ROWS_A_THREAD = 200_000
"""Fewer are gone through sooner than a thread has begun to help."""
_WILDCARDS = ("**/", "**", "*", "?")


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
        home = ""  # a folder's bare name means none of those that lead to the images: the user's own, /tmp
    pattern = _with_what_is_in(pattern)
    starts = np.asarray(offsets, np.int64)
    count = len(starts) - 1
    parts = min(processor_count(), count // ROWS_A_THREAD)
    if parts < 2:
        return _matching(pattern, home, PathText(text, starts))
    # numpy lets go of Python's lock, so each thread goes through its own paths.
    ends = [count * part // parts for part in range(parts + 1)]
    pieces = [
        PathText(text[starts[first] : starts[last]], starts[first : last + 1] - starts[first])
        for first, last in itertools.pairwise(ends)
    ]
    with ThreadPoolExecutor(parts) as pool:
        found = pool.map(lambda piece: _matching(pattern, home, piece), pieces)
        return np.concatenate([rows + first for rows, first in zip(found, ends, strict=False)])


def _matching(pattern: str, home: str, paths: PathText) -> Numbers:
    """As `matching_rows`, of some paths."""
    shape = _Shape.of(pattern)
    if shape is None:
        return _one_by_one(pattern, home, paths, paths.all())
    odd = paths.all()[:0]
    rows = paths.all()
    if shape.by_character:  # a character of several bytes is one for a `?`
        beyond = paths.beyond_ascii(rows)
        odd, rows = rows[beyond], rows[~beyond]
    if shape.folder_glob is not None:
        found = _in_folders(shape.folder_glob, home, paths, paths.with_name(rows, shape.name))
    elif shape.folder is None:
        found = paths.with_name(rows, shape.name)
    else:
        below = np.zeros(len(paths.starts), bool)
        for inside, ends in _below(shape, os.fsencode(home), paths):
            below[inside if shape.deep else inside[paths.name_starts(inside) == ends]] = True
        found = paths.with_name(rows[below[rows]], shape.name)
    if not len(odd):
        return found
    return np.sort(np.concatenate([found, _one_by_one(pattern, home, paths, odd)]))


@dataclass(frozen=True)
class _Shape:
    """A glob as a folder and a name: one without wildcards, or any, is decided by plain comparisons; others are asked
    for each folder that there is.

    Attributes:
        folder: Bytes up to the last slash, that included; None: any folder, or those of `folder_glob`.
        whole: The folder is the path's beginning; else it may be any part of it that begins a component.
        deep: The name may lie in any folder below it, too.
        name: What the file's name is made of, see `PathText.with_name`.
        by_character: The glob has a wildcard for one character.
        folder_glob: The glob up to its last slash where it has wildcards there, or the whole of it where it ends in
            `/**`: each decides by the folder alone.
    """

    folder: bytes | None
    whole: bool
    deep: bool
    name: tuple[Chunk, ...]
    by_character: bool = False
    folder_glob: str | None = None

    @classmethod
    def of(cls, pattern: str) -> _Shape | None:
        """The shape of a glob; None for one that has another."""
        if any("\ud800" <= character <= "\udfff" for character in pattern):
            return None  # stray bytes, which may be part of a character in a name
        whole = pattern.startswith(("/", "./", "../"))
        tokens = [token for token in _WILD.split(_absolute(pattern) if whole else pattern) if token]
        if "/" not in pattern:
            tokens = ["*" if token == "**" else token for token in tokens]
        while not whole and tokens[:1] == ["**/"]:
            tokens = tokens[1:]
        if any(here == "**/" and not above.endswith("/") for above, here in itertools.pairwise(tokens)):
            return None  # `a**/b` takes `ab`, too
        before, behind = _at_last_slash(tokens)
        if behind == ["**"]:
            before, behind = [*before, "**"], ["*"]
        elif "**" in behind:
            return None
        name = _chunks(behind)
        by_character = any(token == "?" or _is_class(token) for token in tokens)
        plain = before[:-1] if before[-1:] in (["**/"], ["**"]) else before
        if any(token in _WILDCARDS or _is_class(token) for token in plain):
            start = "" if whole else "**/"
            return cls(None, whole, False, name, by_character, start + "".join(before))
        folder = os.fsencode("".join(plain)) if plain else None
        if folder is None and before:
            return None
        return cls(folder, whole, plain != before, name, by_character)


def _at_last_slash(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Tokens up to the last one that ends a folder, and those behind it."""
    before: list[str] = []
    behind: list[str] = []
    for token in tokens:
        if token == "**/":
            before, behind = [*before, *behind, token], []
        elif "/" in token and not _is_class(token):
            folders, _, name = token.rpartition("/")
            before, behind = [*before, *behind, folders + "/"], [name] if name else []
        else:
            behind.append(token)
    return before, behind


def _chunks(tokens: list[str]) -> tuple[Chunk, ...]:
    """What stands between the stars of a name."""
    chunks: list[Chunk] = [()]
    for token in tokens:
        if token == "*":
            chunks.append(())
        elif token == "?" or _is_class(token):
            table = _table(token)
            chunks[-1] = (*chunks[-1], table)
        else:
            chunks[-1] = (*chunks[-1], os.fsencode(token))
    ends = chunks[:1] + [chunk for chunk in chunks[1:-1] if chunk] + chunks[1:][-1:]
    return tuple(ends)


def _table(token: str) -> NDArray[np.bool_]:
    """Which bytes below 128 the wildcard for one character takes."""
    fits = re.compile(_glob_expression(token), re.DOTALL).fullmatch
    return np.array([byte < 128 and fits(chr(byte)) is not None for byte in range(256)])


def _is_class(token: str) -> bool:
    """Whether a token is `[...]`."""
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def _in_folders(pattern: str, home: str, paths: PathText, rows: Numbers) -> Numbers:
    """Those of `rows` whose folder, with the slash behind it, a glob matches; each folder is asked once."""
    starts, ends = paths.starts[rows], paths.name_starts(rows)
    firsts, group = paths.groups(starts, ends)
    fits = re.compile(_glob_expression(pattern), re.DOTALL).fullmatch
    text = paths.text
    spans = zip(starts[firsts].tolist(), ends[firsts].tolist(), strict=True)
    folders = (os.fsdecode(text[first:last].tobytes()) for first, last in spans)
    matched = np.array([fits(os.path.join(home, folder, "")) is not None for folder in folders], bool)
    return rows[matched[group]] if len(rows) else rows


def _below(shape: _Shape, home: bytes, paths: PathText) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows below the shape's folder, and where in the text the rest of each path begins; a row may come twice."""
    folder = shape.folder or b""
    above = home.rstrip(b"/") + b"/" if home else b""
    rooted = paths.has(paths.starts, b"/") & (paths.ends > paths.starts)
    absolute, relative = np.flatnonzero(rooted), np.flatnonzero(~rooted)
    if shape.whole:
        yield paths.beginning(absolute, folder)
        if folder.startswith(above):
            yield paths.beginning(relative, folder[len(above) :])
        elif shape.deep and above.startswith(folder):
            yield paths.beginning(relative, b"")
        return
    for rest in _rests(folder, above, shape.deep):
        yield paths.beginning(relative, rest)
    yield paths.beginning(paths.all(), folder)
    begins = paths.occurrences((b"/" + folder,)) + 1
    owners = paths.owners(begins - 1)
    inside = begins + len(folder) <= paths.ends[owners]
    yield owners[inside], begins[inside] + len(folder)


def _rests(folder: bytes, above: bytes, deep: bool) -> Iterator[bytes]:
    """What of `folder` a relative path has to begin with where the beginning of it is the end of `above`."""
    parts = folder.split(b"/")[:-1]
    for count in range(1, len(parts) + 1):
        if (b"/" + above.lstrip(b"/")).endswith(b"/" + b"/".join(parts[:count]) + b"/"):
            yield b"/".join(parts[count:]) + (b"/" if count < len(parts) else b"")
    if deep and b"/" + folder in b"/" + above:
        yield b""


def _one_by_one(pattern: str, home: str, paths: PathText, rows: Numbers) -> Numbers:
    """Those of `rows` that match, each path looked at."""
    matches = glob_matcher(pattern)
    text, starts, ends = paths.text, paths.starts[rows].tolist(), paths.ends[rows].tolist()
    whole = (os.fsdecode(text[first:last].tobytes()) for first, last in zip(starts, ends, strict=True))
    kept = [row for row, path in zip(rows.tolist(), whole, strict=True) if matches(os.path.join(home, path))]
    return np.array(kept, np.int64)


def _absolute(pattern: str) -> str:
    """A glob that begins at the root, in place of one that begins at the working directory."""
    # The working directory's own name is no pattern, whatever it is.
    return os.path.normpath(os.path.join(glob.escape(os.getcwd()), pattern))


def _glob_expression(pattern: str) -> str:
    """A regular expression for a glob whose single star stays within a path component."""
    pieces = []
    for piece in _WILD.split(pattern):
        if piece in _WILDCARDS:
            pieces.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[piece])
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            pieces.append("(?!/)" + fnmatch.translate(piece).removeprefix("(?s:").rsplit(")", 1)[0])  # no slash fits
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces)
