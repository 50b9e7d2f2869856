"""Several indexes that answer as one: ids count through them in the order in which they were named."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.embeddings.identity import Identity
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.store.index_folder import CaptionIndex, IndexFolder
from bt_cli.store.photo_table import joined_cameras


class _Joined:
    """Parts that are searched, each with a range of ids."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)
        self.first = np.cumsum([0, *map(len, self.parts)])
        """(parts + 1,) the id that each begins with."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def search(self, vectors: np.ndarray, k: int, *, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `IndexFolder.search`: the best of all, equal scores by ascending id."""
        answers = []
        for number, part in enumerate(self.parts):
            mine = None if ids is None else self._mine(np.unique(np.asarray(ids, np.int64)), number)
            scores, found = part.search(vectors, k, ids=mine)
            answers.append((scores, np.where(found < 0, -1, found + self.first[number])))
        scores = np.concatenate([part for part, _ in answers], axis=1)
        found = np.concatenate([part for _, part in answers], axis=1)
        order = np.lexsort((np.where(found < 0, len(self), found), -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)

    def _mine(self, ids: np.ndarray, number: int) -> np.ndarray:
        begin, end = np.searchsorted(ids, self.first[number : number + 2])
        return ids[begin:end] - self.first[number]

    def _each(self, ids: Any) -> list[tuple[Any, int]]:
        """(part, its id) of each id."""
        ids = np.asarray(ids, np.int64)
        places = np.searchsorted(self.first, ids, side="right") - 1
        return [(self.parts[place], int(id - self.first[place])) for id, place in zip(ids, places, strict=True)]


class CaptionSet(_Joined):
    """The captions of the indexes that have some.

    Args:
        parts: The captions of each.
        images: The id of the first image of each one's index.
    """

    def __init__(self, parts: Sequence[CaptionIndex], images: Sequence[int]) -> None:
        super().__init__(parts)
        self._images = dict(zip(map(id, self.parts), images, strict=True))

    def texts(self, ids: Any) -> list[str]:
        """As `CaptionIndex.texts`."""
        return [part.texts([own])[0] for part, own in self._each(ids)]

    def image_ids(self, ids: Any) -> np.ndarray:
        """As `CaptionIndex.image_ids`, counted through the indexes."""
        ids = np.asarray(ids, np.int64)
        owners = np.empty(len(ids), np.int64)
        for number, part in enumerate(self.parts):
            mine = (ids >= self.first[number]) & (ids < self.first[number + 1])
            own = part.image_ids(ids[mine] - self.first[number])
            owners[mine] = np.where(own < 0, -1, own + self._images[id(part)])
        return owners


class PhotoSet:
    """As `PhotoTable`, of several indexes."""

    def __init__(self, joined: _Joined) -> None:
        self._joined = joined

    def column(self, name: str) -> np.ndarray:
        """As `PhotoTable.column`, counted through the indexes."""
        return np.concatenate([part.photos.column(name) for part in self._joined.parts])

    def cameras(self) -> tuple[np.ndarray, list[str]]:
        """As `PhotoTable.cameras`, counted through the indexes."""
        return joined_cameras([part.photos.cameras() for part in self._joined.parts])

    def facts(self, ids: Any) -> list[PhotoFacts]:
        """As `PhotoTable.facts`."""
        return [part.photos.facts([own])[0] for part, own in self._joined._each(ids)]


class KeptSet:
    """As `KeptTable`, of several indexes: the columns that any of them keeps."""

    def __init__(self, joined: _Joined) -> None:
        self._joined = joined
        self.names = list(dict.fromkeys(name for part in joined.parts for name in part.kept.names))

    def of(self, ids: Any) -> list[dict[str, str | None]]:
        """As `KeptTable.of`; an image has the columns of its own index."""
        return [part.kept.of([own])[0] for part, own in self._joined._each(ids)]


class IndexSet(_Joined):
    """What a search asks of an `IndexFolder`, of several.

    Attributes:
        folder: The first index's: its bridge features, where it keeps some, are those that are used.
        captions: Of all that have some, or None.
        photos: How the images were taken.
        kept: What was carried along from the images' sources.
    """

    def __init__(self, folders: Sequence[IndexFolder]) -> None:
        super().__init__(folders)
        self.folder = folders[0].folder
        self.photos = PhotoSet(self)
        self.kept = KeptSet(self)
        own = [(folder.captions, int(at)) for folder, at in zip(folders, self.first, strict=False) if folder.captions]
        self.captions = CaptionSet([part for part, _ in own], [at for _, at in own]) if own else None

    @classmethod
    def open(cls, folders: Sequence[Path]) -> IndexSet:
        """Open index folders.

        Raises:
            NoIndex, BrokenIndex: As `IndexFolder.open`.
            IndexMismatch: Two were made by different checkpoints.
        """
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(IndexFolder.open(folder)) for folder in folders]
            for folder in opened[1:]:
                folder.require(opened[0].identity)
            stack.pop_all()
        return cls(opened)

    @property
    def identity(self) -> Identity:
        """What made the vectors of all."""
        return self.parts[0].identity

    def require(self, identity: Identity) -> None:
        """As `IndexFolder.require`."""
        self.parts[0].require(identity)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """As `IndexFolder.vectors_of`."""
        ids = np.asarray(ids, np.int64)
        vectors = np.empty((len(ids), self.identity.dimension), np.float32)
        for number, part in enumerate(self.parts):
            mine = (ids >= self.first[number]) & (ids < self.first[number + 1])
            vectors[mine] = part.vectors_of(ids[mine] - self.first[number])
        return vectors

    def paths(self, ids: Any) -> list[str]:
        """As `IndexFolder.paths`."""
        return [part.paths([own])[0] for part, own in self._each(ids)]

    def matching(self, pattern: str) -> np.ndarray:
        """As `IndexFolder.matching`."""
        return np.concatenate([part.matching(pattern) + at for part, at in zip(self.parts, self.first, strict=False)])

    def close(self) -> None:
        """Close what is open."""
        for part in self.parts:
            part.close()

    def __enter__(self) -> IndexSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
