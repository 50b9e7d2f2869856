"""Finding the image that a caption file means: names in such files are rarely the paths of today."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bt_cli.datasets.image_folder import find_images
from bt_cli.errors import Misuse, NotFound
from bt_cli.files.shown_path import shown_path


def none_below(captions: str, count: int, folder: str | os.PathLike[str]) -> NotFound:
    """The error for a caption file of which not one of its `count` images is below the folder."""
    return NotFound(
        f"{shown_path(captions)}: none of its {count} images is below {shown_path(folder)}; --images names their folder"
    )


class ImageNames:
    """Image paths, to be found by what a caption file calls them.

    Args:
        paths: The images.
        folders: Where relative names may start from.
    """

    def __init__(self, paths: Iterable[str], folders: Iterable[str] = ()) -> None:
        self.folders = list(folders)
        self.paths: set[str] = set()
        self.by_name: dict[str, list[str]] = {}
        for path in paths:
            self.paths.add(path)
            self.by_name.setdefault(os.path.basename(path), []).append(path)

    @classmethod
    def below(cls, folder: str | os.PathLike[str]) -> ImageNames:
        """The images below a folder.

        Raises:
            NotFound: There is no such folder.
            Misuse: It is a file.
        """
        folder = os.fspath(folder)
        if os.path.isfile(folder):
            raise Misuse(f"{shown_path(folder)}: a file; name the folder that the captions' images lie in")
        return cls((file.path for file in find_images([folder])), [folder])

    def find(self, name: str) -> str | None:
        """The path that is meant by `name`: itself, below a folder, or the one that shares the longest tail with it.

        `val2014/cat.jpg` means `coco/val2014/cat.jpg` before `coco/train2014/cat.jpg`, and `cat.jpg` if it is the
        only one so called. A name without a suffix may mean a file with one. None where nothing fits, or several do
        equally well.
        """
        for candidate in (name, *(os.path.normpath(os.path.join(folder, name)) for folder in self.folders)):
            if candidate in self.paths:
                return candidate
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        candidates = self.by_name.get(parts[-1]) or self._by_stem.get(parts[-1], [])
        best = max((_common_tail(path, parts) for path in candidates), default=0)
        fitting = [path for path in candidates if _common_tail(path, parts) == best]
        return fitting[0] if len(fitting) == 1 else None

    @property
    def _by_stem(self) -> dict[str, list[str]]:
        if not hasattr(self, "_stems"):
            self._stems: dict[str, list[str]] = {}
            for name, paths in self.by_name.items():
                self._stems.setdefault(os.path.splitext(name)[0], []).extend(paths)
        return self._stems


def _common_tail(path: str, parts: list[str]) -> int:
    """How many components two paths share, counted from the end; the file's own name counts as shared."""
    count = 1
    for mine, theirs in zip(reversed(path.split(os.sep)[:-1]), reversed(parts[:-1]), strict=False):
        if mine != theirs:
            break
        count += 1
    return count
