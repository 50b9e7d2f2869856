"""The rows of an image table without their embeddings, as arrays: about 140 bytes, a path and what is kept each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bt_cli.embeddings.embedding_table import nanoseconds, path_columns, paths_of, read_columns, reading, times
from bt_cli.embeddings.kept_columns import blank_kept, kept_array, kept_in
from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS, arrow_columns, blank_column, facts_arrays, photo_array
from bt_cli.files.photo_facts import PhotoFacts

COLUMNS = ["path", "path_bytes", "size", "mtime", "content_hash", "width", "height"]
"""Those that every image table has."""
OF_CONTENT = ("content_hash", "width", "height", *PHOTO_COLUMNS)
"""Those that are equal where the file's bytes are."""
ARRAYS = ("size", "mtime", *OF_CONTENT)
HASH = "S64"
KEYS_AT_A_TIME = 1 << 16


@dataclass
class ImageRows:
    """Rows in the order of the table; the arrays have one entry a path."""

    paths: list[str]
    size: np.ndarray
    """(n,) int64, bytes."""
    mtime: np.ndarray
    """(n,) int64, nanoseconds."""
    content_hash: np.ndarray
    """(n,) S64: SHA-256 as hex digits."""
    width: np.ndarray
    """(n,) int32, pixels."""
    height: np.ndarray
    """(n,) int32, pixels."""
    taken: np.ndarray
    """(n,) int64; this and the others as `photo_columns` has them."""
    taken_offset: np.ndarray
    """(n,) int16."""
    camera: np.ndarray
    """(n,) object."""
    latitude: np.ndarray
    """(n,) float64."""
    longitude: np.ndarray
    """(n,) float64."""
    kept: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    """By name, (n,) objects: the columns that were carried along, as `kept_columns` has them."""

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def blank(cls, paths: list[str]) -> ImageRows:
        """Rows with these paths, zeros, and nothing of how they were taken."""
        n = len(paths)
        return cls(
            paths,
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros(n, HASH),
            np.zeros(n, np.int32),
            np.zeros(n, np.int32),
            *(blank_column(name, n) for name in PHOTO_COLUMNS),
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ImageRows:
        """The rows of a Parquet table; its embeddings are not read.

        Raises:
            BrokenIndex: It is no image table.
        """
        with reading(path):
            return cls.from_columns(read_columns(path, [*COLUMNS, *PHOTO_COLUMNS], kept=True))

    @classmethod
    def from_columns(cls, table: Any) -> ImageRows:
        """The rows of a pyarrow table or record batch with the columns of an image table."""
        return cls(
            paths_of(table.column("path").to_pylist(), table.column("path_bytes").to_pylist()),
            np.asarray(table.column("size"), np.int64),
            nanoseconds(table.column("mtime")),
            np.array(table.column("content_hash").to_pylist(), HASH),
            np.asarray(table.column("width"), np.int32),
            np.asarray(table.column("height"), np.int32),
            *(photo_array(name, table) for name in PHOTO_COLUMNS),
            kept={name: kept_array(table.column(name)) for name in kept_in(table.schema)},
        )

    def keep(self, names: Sequence[str]) -> None:
        """Have these columns kept, of nulls where there was none, and no other ones."""
        self.kept = {name: self.kept[name] if name in self.kept else blank_kept(len(self)) for name in names}

    def take(self, rows: np.ndarray) -> ImageRows:
        """Some of the rows, in the order of `rows`."""
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        arrays = (getattr(self, name)[rows] for name in ARRAYS)
        kept = {name: values[rows] for name, values in self.kept.items()}
        return ImageRows([self.paths[row] for row in rows], *arrays, kept=kept)

    @classmethod
    def joined(cls, parts: list[ImageRows]) -> ImageRows:
        """The rows of all, one after another; a column that any of them keeps is null in the others."""
        arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS)
        kept = {
            name: np.concatenate([part.kept.get(name, blank_kept(len(part))) for part in parts])
            for name in dict.fromkeys(name for part in parts for name in part.kept)
        }
        return cls([path for part in parts for path in part.paths], *arrays, kept=kept)

    def in_order(self) -> np.ndarray:
        """(n,) the rows by path, components compared as bytes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        # Some at a time: Python's own bytes objects take twice as much memory as their content.
        keys = [
            pa.array(
                [os.fsencode(path).replace(b"/", b"\0") for path in self.paths[first : first + KEYS_AT_A_TIME]],
                pa.binary(),
            )
            for first in range(0, len(self), KEYS_AT_A_TIME)
        ]
        return np.asarray(pc.sort_indices(pa.chunked_array(keys, pa.binary())), np.int64)

    def columns(self, first: int, last: int) -> dict[str, Any]:
        """Rows `first` to `last` as columns of an image table, all but the embeddings."""
        texts, raw = path_columns(self.paths[first:last])
        return {
            "path": texts,
            "path_bytes": raw,
            "size": self.size[first:last],
            "mtime": times(self.mtime[first:last]),
            "content_hash": [digest.decode("ascii") for digest in self.content_hash[first:last].tolist()],
            "width": self.width[first:last],
            "height": self.height[first:last],
            **arrow_columns({name: getattr(self, name)[first:last] for name in PHOTO_COLUMNS}),
            **{name: values[first:last].tolist() for name, values in self.kept.items()},
        }

    def copy_rows(
        self, positions: Iterable[int] | np.ndarray, other: ImageRows, rows: Iterable[int] | np.ndarray
    ) -> None:
        """Take over everything but the paths from `rows` of `other` into `positions`; of what is kept the columns that
        both have."""
        for name in ARRAYS:
            getattr(self, name)[positions] = getattr(other, name)[rows]
        for name, values in self.kept.items():
            if name in other.kept:
                values[np.asarray(positions, np.int64)] = other.kept[name][np.asarray(rows, np.int64)]

    def set_facts(self, positions: np.ndarray, facts: Sequence[PhotoFacts]) -> None:
        """Say of some rows how they were taken."""
        for name, values in facts_arrays(facts, len(positions)).items():
            getattr(self, name)[positions] = values
