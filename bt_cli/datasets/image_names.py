"""Finding the image that a caption file means: names in such files are rarely the paths of today."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from bt_cli.datasets.image_folder import find_images
from bt_cli.errors import Misuse, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.member import is_container
from bt_cli.sources.web_address import is_url

NAMED = 3
"""Files that a message names where a caption's image may be any of them."""


def shown_places(places: Sequence[str | os.PathLike[str]]) -> str:
    """The places where images are looked for, for a message."""
    more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
    return f"{shown_path(places[0])}{more}"


def none_below(captions: str, count: int, where: str) -> NotFound:
    """The error for a caption file of which not one of its `count` images is below a place (see `shown_places`)."""
    return NotFound(f"{shown_path(captions)}: none of its {count} images is below {where}; --images names their folder")


def not_found(name: str, fitting: list[str], where: str) -> str:
    """Why an image of a caption file has no file: none `fitting`, or several equally well."""
    if not fitting:
        return f"its image {shown_path(name)} is not {where}"
    listed = ", ".join(shown_path(path) for path in fitting[:NAMED])
    more = f" and {len(fitting) - NAMED:,} more" if len(fitting) > NAMED else ""
    return f"its image {shown_path(name)} fits {len(fitting):,} files, {listed}{more}; write which, with its folder"


def composed(name: str) -> str:
    """A path in Unicode's composed form (NFC), since programs differ in how they write an accent, without the white
    space around its parts, which tables don't keep."""
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    return "/".join(part.strip() for part in name.split("/"))


def folded(name: str) -> str:
    """A name without the difference of upper and lower case, in composed form."""
    return composed(composed(name).casefold())


class ImageNames:
    """Image paths, to be found by what a caption file calls them.

    Args:
        paths: The images.
        folders: Where relative names may start from.
        elsewhere: A name that is an address, and fits none of the paths, means what is there.
    """

    def __init__(self, paths: Iterable[str], folders: Iterable[str] = (), *, elsewhere: bool = False) -> None:
        self.elsewhere = elsewhere
        self.folders = list(folders)
        self.paths = list(paths)

    @classmethod
    def below(cls, *places: str | os.PathLike[str], elsewhere: bool = False) -> ImageNames:
        """The images below folders, and in tar and Parquet files; and with `elsewhere` at addresses.

        Raises:
            NotFound: There is no such folder, or nothing is found since one can't be read.
            Misuse: One is a file without images in it.
        """
        named = [os.fspath(place) for place in places]
        for place in named:
            if os.path.isfile(place) and not is_container(place):
                raise Misuse(f"{shown_path(place)}: a file; name the folder that the captions' images lie in")
        errors: list[tuple[str, OSError]] = []
        found = [file.path for file in find_images(named, on_error=lambda *error: errors.append(error))]
        if errors and not found:
            path, error = errors[0]
            raise NotFound(f"{shown_path(path)}: {error.strerror or error}")
        return cls(found, named, elsewhere=elsewhere)

    def find(self, name: str) -> str | None:
        """The path that is meant by `name`; None where nothing fits, or several do equally well (see `fitting`)."""
        fitting = self.fitting(name)
        return fitting[0] if len(fitting) == 1 else None

    def fitting(self, name: str) -> list[str]:
        """The path that is meant by `name`: itself, below a folder, or the one that shares the longest tail with it.

        `val2014/cat.jpg` means `coco/val2014/cat.jpg` before `coco/train2014/cat.jpg`, and `cat.jpg` if it is the
        only one so called. A name without a suffix may mean a file with one. Where nothing is spelled like it, names
        that are equal in composed form (NFC) count, and then those equal but for upper and lower case. Several paths
        where they fit equally well; none where nothing does, but see `elsewhere`.
        """
        for spelling in (self._as_written, self._composed, self._folded):
            fitting = spelling.fitting(name, self.folders)
            if fitting:
                return fitting
        return [name] if self.elsewhere and is_url(name) else []

    @cached_property
    def _as_written(self) -> _Spelling:
        return _Spelling(self.paths, str)

    @cached_property
    def _composed(self) -> _Spelling:
        return _Spelling(self.paths, composed)

    @cached_property
    def _folded(self) -> _Spelling:
        return _Spelling(self.paths, folded)


class _Spelling:
    """The paths by names that count as equal where `key` makes them so."""

    def __init__(self, paths: list[str], key: Callable[[str], str]) -> None:
        self.key = key
        self.whole: dict[str, list[str]] = {}
        self.by_name: dict[str, list[str]] = {}
        for path in paths:
            spelled = key(path)
            self.whole.setdefault(spelled, []).append(path)
            self.by_name.setdefault(os.path.basename(spelled), []).append(path)

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name, paths in self.by_name.items():
            stems.setdefault(os.path.splitext(name)[0], []).extend(paths)
        return stems

    def fitting(self, name: str, folders: list[str]) -> list[str]:
        for candidate in (name, *(os.path.normpath(os.path.join(folder, name)) for folder in folders)):
            if found := self.whole.get(self.key(candidate)):
                return found
        # A backslash may stand in a name, and it may be what Windows writes between folders, in names without controls.
        windows = name.replace("\\", "/") if name.isprintable() else name
        for text in dict.fromkeys((self.key(name), self.key(windows))):
            parts = [part for part in text.split("/") if part not in ("", ".", "..")]
            if parts and (found := self.by_name.get(parts[-1]) or self.by_stem.get(parts[-1])):
                shared = [self._common_tail(path, parts) for path in found]
                longest = max(shared)
                return [path for path, tail in zip(found, shared, strict=True) if tail == longest]
        return []

    def _common_tail(self, path: str, parts: list[str]) -> int:
        """How many components two paths share, counted from the end; the file's own name counts as shared."""
        count = 1
        folders = self.key(path).split(os.sep)[:-1]
        for mine, theirs in zip(reversed(folders), reversed(parts[:-1]), strict=False):
            if mine != theirs:
                break
            count += 1
        return count
