"""What a walk through image folders leaves out: `--exclude`, `.btignore` files, and the thumbnails and bins that
other programs keep among the images."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from bt_cli.errors import Misuse
from bt_cli.files.plain_file import is_plain
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".btignore"
"""A file of this name leaves out what lies below its folder, in the syntax of .gitignore."""

IGNORE_FILE_LIMIT = 1 << 20
"""Bytes of such a file that are read; a longer one is no list that a person wrote."""

DEFAULT_EXCLUDES = (
    "@eaDir",  # thumbnails of a Synology
    "@__thumb",  # and of a QNAP
    "#recycle",
    "#snapshot",
    "@Recycle",
    "@Recently-Snapshot",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "lost+found",
    "__MACOSX",  # resource forks in archives that macOS packed
    "node_modules",
    "__pycache__",
    "*.photoslibrary/resources",  # previews of Apple Photos, whose images are in originals/
    "*.lrdata",  # previews of Lightroom
)
"""Names of folders, in either case, that hold no images of the user's own. Names that begin with a dot (.thumbnails,
.git, .Trash, ._photo.jpg) are left out, too. `.btignore` and `--exclude` take one in again by `!NAME`."""

OWN_FOLDER = ".bt"


@dataclass(frozen=True)
class Exclusion:
    """What the user wants left out below every root."""

    globs: tuple[str, ...] = ()
    """In the syntax of .gitignore, the last that fits deciding. A name fits at any depth, a path (`2020/raw`) too; one
    that begins with `/` begins at the root; `./` and paths that lead to the root's inside from the working directory
    are understood; `!` in front takes something in again."""
    defaults: bool = True
    """Leave out `DEFAULT_EXCLUDES` and hidden files and folders, where no glob takes them in."""
    index: str | None = None
    """The index folder itself, absolute: nobody misses what is in it, whatever it is called and wherever it lies."""

    def check(self) -> None:
        """Raises Misuse for a glob that is none."""
        for glob in self.globs:
            try:
                _spec([glob])
            except ValueError as error:
                raise Misuse(f"--exclude {glob}: {error}") from None


@dataclass
class RootRules:
    """The rules that hold below one root, with the `.btignore` files found so far."""

    root: str
    exclusion: Exclusion
    _specs: dict[str, GitIgnoreSpec | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.rstrip(os.sep) or os.sep
        lines = [line for glob in self.exclusion.globs for line in _lines_below(glob, self.root)]
        self._own = _spec(lines) if lines else None

    def enter(self, folder: str, has_file: bool) -> None:
        """Read the folder's `.btignore`, where its listing shows one."""
        folder = folder.rstrip(os.sep) or os.sep
        if has_file and folder not in self._specs:
            self._specs[folder] = _read_spec(os.path.join(folder, IGNORE_FILE))

    @property
    def has_globs(self) -> bool:
        """Whether a glob may say something of a file, found so far; without one, hidden names alone are left out."""
        return self._own is not None or any(self._specs.values())

    def excludes(self, path: str, is_folder: bool) -> bool:
        """Whether a child of a folder that was entered is left out."""
        name = os.path.basename(path)
        if is_folder and self.is_own(path):
            return True
        for folder, spec in self._specs_above(path):
            below = os.path.relpath(path, folder).replace(os.sep, "/")
            included = spec.check_file(below + "/" * is_folder).include
            if included is not None:
                return included
        return self.exclusion.defaults and (name.startswith(".") or (is_folder and _is_default(path)))

    def is_own(self, path: str) -> bool:
        """Whether a path is that of an index of bt's, or of a `.btignore`, which no count mentions."""
        name = os.path.basename(path)
        return name in (OWN_FOLDER, IGNORE_FILE) or os.path.abspath(path) == self.exclusion.index

    def excludes_below(self, path: str) -> bool:
        """Whether something below the root is left out, itself or by a folder on the way to it."""
        parts = os.path.relpath(path, self.root).split(os.sep)
        at = self.root
        for part in parts:
            self.enter(at, os.path.lexists(os.path.join(at, IGNORE_FILE)))
            at = os.path.join(at, part)
            if self.excludes(at, os.path.isdir(at)):
                return True
        return False

    def _specs_above(self, path: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
        """The rules that may say something of a path, those nearest to it first."""
        if self._specs:
            folder = os.path.dirname(path)
            while True:
                spec = self._specs.get(folder)
                if spec is not None:
                    yield folder, spec
                if folder == self.root or len(folder) <= len(self.root):
                    break
                folder = os.path.dirname(folder)
        if self._own is not None:
            yield self.root, self._own


def _is_default(path: str) -> bool:
    parent, name = os.path.split(path)
    names, pairs = _default_patterns()
    return bool(names.fullmatch(name) or pairs.fullmatch(f"{os.path.basename(parent)}/{name}"))


@cache
def _default_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """`DEFAULT_EXCLUDES`: those that are names, and those that are a name in another's folder."""
    pairs = [glob for glob in DEFAULT_EXCLUDES if "/" in glob]
    return _either([glob for glob in DEFAULT_EXCLUDES if "/" not in glob]), _either(pairs)


def _either(globs: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs), re.IGNORECASE)


def _lines_below(glob: str, root: str) -> list[str]:
    """A glob of the user's as lines of a .gitignore in the root."""
    sign, pattern = ("!", glob[1:]) if glob.startswith("!") else ("", glob)
    dotted = pattern.startswith("./")
    pattern = pattern.removeprefix("./")
    if "/" not in pattern.rstrip("/") and not dotted:
        return [sign + pattern]
    lines = [] if pattern.startswith("/") or dotted else [f"{sign}**/{pattern}"]
    if pattern.startswith("/"):
        lines.append(sign + pattern)
    inside = _inside(os.path.join(os.getcwd(), pattern), os.path.abspath(root))
    if inside:
        lines.append(f"{sign}/{inside}" + "/" * pattern.endswith("/"))
    return lines


def _inside(pattern: str, root: str) -> str | None:
    """What a glob over absolute paths says below the root, None where it leads elsewhere."""
    pattern_parts, root_parts = _parts(os.path.normpath(pattern)), _parts(root)
    if pattern_parts[: len(root_parts)] != root_parts:
        return None
    return "/".join(pattern_parts[len(root_parts) :])


def _parts(path: str) -> list[str]:
    return [part for part in path.split(os.sep) if part]


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


def _read_spec(path: str) -> GitIgnoreSpec | None:
    """The rules of a `.btignore`; None where it has none.

    Raises:
        Misuse: A line that is no pattern, or a file that is no list of them: what it meant to leave out would be taken.
    """
    try:
        if not is_plain(os.stat(path)):
            return None
        with open(path, "rb") as file:
            text = file.read(IGNORE_FILE_LIMIT + 1)
    except OSError as error:
        raise Misuse(f"{shown_path(path)}: can't be read: {error.strerror}; what it leaves out is not known") from None
    if len(text) > IGNORE_FILE_LIMIT:
        raise Misuse(f"{shown_path(path)}: longer than {IGNORE_FILE_LIMIT:,} bytes, so no list of patterns")
    try:
        return _spec(os.fsdecode(text).removeprefix("\ufeff").splitlines())
    except ValueError as error:
        raise Misuse(f"{shown_path(path)}: {error}") from None
