"""Images that an index holds more than once: files of equal content, and near twins by their embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bt_cli.errors import Misuse

if TYPE_CHECKING:
    from bt_cli.store.index_folder import IndexFolder

NEAR = 0.98
"""Cosine of two embeddings from which images count as twins where nothing else is said: another size, format or slight
crop of the same image stays above it."""
BLOCK = 2048
"""Rows compared with as many others at a time: 16 MiB of cosines."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Copy:
    """An image of a group.

    Attributes:
        id: In the index.
        path: To be opened from the working directory.
        size: Bytes of the file.
        width, height: Pixels.
        mtime: Time of change, nanoseconds since 1970.
        cosine: With the image that is to be kept.
    """

    id: int
    path: str
    size: int
    width: int
    height: int
    mtime: int
    cosine: float


@dataclass(frozen=True)
class Group:
    """Images that show the same.

    Attributes:
        equal: All have the same content, byte for byte; else some are only near.
        images: The one to keep first, then the others, the best to keep before.
    """

    equal: bool
    images: Sequence[Copy]

    @property
    def spare_bytes(self) -> int:
        """What the others take."""
        return sum(copy.size for copy in self.images[1:])

    def record(self, number: int) -> dict[str, Any]:
        """As `--json` prints it."""
        images = [
            {
                "path": copy.path,
                "id": copy.id,
                "bytes": copy.size,
                "width": copy.width,
                "height": copy.height,
                "cosine": round(copy.cosine, 6),
            }
            for copy in self.images
        ]
        kind = "equal" if self.equal else "near"
        keep = self.images[0].path
        return {"group": number, "kind": kind, "keep": keep, "spare_bytes": self.spare_bytes, "images": images}


def find_duplicates(folder: IndexFolder, near: float | None = None, *, progress: Progress | None = None) -> list[Group]:
    """Groups of an index's images of equal content or, with `near`, of at least that cosine, the largest saving first.

    Nearness is passed on: each image of a group is near to some other of it. To keep is the image with the most pixels;
    of equals the one with the most bytes, then the oldest, then the first by path. Every image is compared with every
    other, in blocks: memory does not grow with their number, time with its square.

    Args:
        folder: The index.
        near: The least cosine, above 0 and at most 1; None: equal content alone.
        progress: Called with rows compared and rows in all.

    Raises:
        Misuse: `near` is no such number.
        BrokenIndex: The index is damaged.
    """
    if near is not None and not 0 < near <= 1:
        raise Misuse(f"--near {near:g}: a cosine above 0 and at most 1 is needed")
    from bt_cli.embeddings.embedding_table import nanoseconds

    table = folder.table(["size", "mtime", "content_hash", "width", "height"])
    digests = np.array(table.column("content_hash").to_pylist(), "S64")
    leader = _Leaders(len(folder))
    order = np.argsort(digests, kind="stable")
    for first, second in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        if digests[first] == digests[second]:
            leader.join(first, second)
    if near is not None:
        for first, second in _near_pairs(folder, near, progress):
            leader.join(first, second)
    size, width, height = (np.asarray(table.column(name), np.int64) for name in ("size", "width", "height"))
    mtime = nanoseconds(table.column("mtime"))
    groups = []
    for ids in leader.groups():
        paths = dict(zip(ids, folder.paths(ids), strict=True))
        ids.sort(key=lambda id: (-width[id] * height[id], -size[id], mtime[id], os.fsencode(paths[id])))
        vectors = _of_norm_1(folder.vectors_of(np.array(ids)))
        cosines = np.clip(vectors @ vectors[0], -1, 1).tolist()
        images = [
            Copy(id, paths[id], int(size[id]), int(width[id]), int(height[id]), int(mtime[id]), cosine)
            for id, cosine in zip(ids, cosines, strict=True)
        ]
        groups.append(Group(len(set(digests[ids].tolist())) == 1, images))
    return sorted(groups, key=lambda group: (-group.spare_bytes, os.fsencode(group.images[0].path)))


def fold_twins(vectors: NDArray[np.float32], near: float = NEAR) -> list[int]:
    """The rows of (n, d) embeddings, best first, that are no twin of an earlier one that stays."""
    vectors = _of_norm_1(vectors)
    kept: list[int] = []
    for row in range(len(vectors)):
        if not kept or float((vectors[kept] @ vectors[row]).max()) < near:
            kept.append(row)
    return kept


def _near_pairs(folder: IndexFolder, near: float, progress: Progress | None) -> Iterator[tuple[int, int]]:
    count = len(folder)
    for first in range(0, count, BLOCK):
        here = _of_norm_1(folder.vectors_of(np.arange(first, min(first + BLOCK, count))))
        for second in range(first, count, BLOCK):
            there = (
                here
                if second == first
                else _of_norm_1(folder.vectors_of(np.arange(second, min(second + BLOCK, count))))
            )
            # Rounding may leave equal embeddings a little below 1.
            rows, columns = np.nonzero(here @ there.T >= min(near, 1 - 1e-6))
            for row, column in zip((rows + first).tolist(), (columns + second).tolist(), strict=True):
                if row < column:
                    yield row, column
        if progress is not None:
            progress(min(first + BLOCK, count), count)


def _of_norm_1(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Stored in float16 they are of norm 1 but for its rounding."""
    wide = np.asarray(vectors, np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


class _Leaders:
    """Union of sets of numbers, each known by its least one."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def of(self, number: int) -> int:
        while self.above[number] != number:
            self.above[number] = self.above[self.above[number]]
            number = self.above[number]
        return number

    def join(self, first: int, second: int) -> None:
        first, second = self.of(first), self.of(second)
        self.above[max(first, second)] = min(first, second)

    def groups(self) -> list[list[int]]:
        """Sets of more than one number."""
        found: dict[int, list[int]] = {}
        for number in range(len(self.above)):
            found.setdefault(self.of(number), []).append(number)
        return [numbers for numbers in found.values() if len(numbers) > 1]
