"""The files of one generation of an index: tables, vectors and strings, each written once, in order, and synced.

No step holds all vectors in memory: they go from the old table and the journal to their rows of the vector file,
and from there in order into the Parquet table.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bt_cli.errors import BrokenIndex
from bt_cli.files.shown_path import shown_path
from bt_cli.store.embedding_table import (
    ROW_GROUP,
    TableWriter,
    caption_schema,
    image_schema,
    path_columns,
    paths_of,
    read_columns,
    read_embeddings,
    reading,
    vector_array,
    vectors_of,
)
from bt_cli.store.identity import Identity
from bt_cli.store.image_rows import ImageRows
from bt_cli.store.index_choice import choose_index
from bt_cli.store.journal import Journal
from bt_cli.store.manifest import VectorIndexEntry
from bt_cli.store.string_table import write_strings
from bt_cli.store.vector_file import VectorFileWriter

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class CaptionRows:
    """The captions of an index, in their order."""

    texts: list[str]
    images: list[str | None]
    """Stored path of each one's image, where the index has it."""
    caption_ids: list[str | None]
    files: list[str]
    """The caption files that they were read from."""

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def read(cls, path: Path, files: list[str]) -> CaptionRows:
        """The captions of a table, without their embeddings.

        Raises:
            BrokenIndex: It is no caption table, or a damaged one.
        """
        table = read_columns(path, ["caption", "image", "image_bytes", "caption_id"])
        with reading(path):
            names = zip(table.column("image").to_pylist(), table.column("image_bytes").to_pylist(), strict=True)
            images = [None if text is None else paths_of([text], [raw])[0] for text, raw in names]
            return cls(table.column("caption").to_pylist(), images, table.column("caption_id").to_pylist(), files)

    def columns(self, first: int, last: int) -> dict[str, Any]:
        """Rows `first` to `last` as columns of a caption table, all but the embeddings."""
        images = self.images[first:last]
        texts, raw = path_columns([image or "" for image in images])
        return {
            "caption": self.texts[first:last],
            "image": [text if image is not None else None for text, image in zip(texts, images, strict=True)],
            "image_bytes": raw,
            "caption_id": self.caption_ids[first:last],
        }


class GenerationFiles:
    """Writes the files of generation `number` into an index folder; nothing refers to them until a manifest does."""

    def __init__(self, folder: Path, number: int, identity: Identity, dtype: str, factory: str | None) -> None:
        self.folder = folder
        self.number = number
        self.identity = identity
        self.dtype = dtype
        self.factory = factory

    def write_images(
        self, rows: ImageRows, old_table: Path | None, from_table: np.ndarray, journal: Journal
    ) -> VectorIndexEntry:
        """Table, vectors and paths of the images; fills in what `rows` lacks from the journal.

        Raises:
            BrokenIndex: A row is neither in the old table nor in the journal.
        """
        name = f"{self.number:06d}"
        vectors = VectorFileWriter(
            self.folder / f"unsorted-{name}.faiss", len(rows), self.identity.dimension, self.dtype
        )
        with vectors:
            if old_table is not None:
                _copy_vectors(vectors, old_table, from_table)
            self._take_images(vectors, rows, from_table < 0, journal)
            self._write_table(f"images-{name}.parquet", image_schema(self.identity, self.dtype), rows, vectors)
        self._write_strings(f"paths-{name}.bin", map(os.fsencode, rows.paths), len(rows))
        return self._entry(f"images-{name}.parquet", f"vectors-{name}.faiss", f"paths-{name}.bin", len(rows))

    def write_captions(
        self, captions: CaptionRows, image_paths: list[str], old_table: Path | None, journal: Journal
    ) -> VectorIndexEntry:
        """Table, vectors, texts and image rows of the captions; equal texts share one embedding.

        Raises:
            BrokenIndex: A text is neither in the old table nor in the journal.
        """
        name = f"{self.number:06d}"
        places: dict[str, list[int]] = {}
        for place, text in enumerate(captions.texts):
            places.setdefault(text, []).append(place)
        unsorted = self.folder / f"unsorted-{name}.faiss"
        with VectorFileWriter(unsorted, len(captions), self.identity.dimension, self.dtype) as vectors:
            missing = set(places)
            if old_table is not None:
                with reading(old_table):
                    texts = iter(read_columns(old_table, ["caption"]).column("caption").to_pylist())
                for group in read_embeddings(old_table):
                    _copy_texts(vectors, [next(texts) for _ in group], group, places, missing)
            for batch in journal.batches():
                _copy_texts(
                    vectors, batch.column("caption").to_pylist(), vectors_of(batch.column("embedding")), places, missing
                )
            if missing:
                raise BrokenIndex(f"{shown_path(self.folder)}: no embedding for the caption {min(missing)!r}")
            self._write_table(f"captions-{name}.parquet", caption_schema(self.identity, self.dtype), captions, vectors)
        self._write_strings(
            f"texts-{name}.bin", (text.encode("utf-8", "replace") for text in captions.texts), len(captions)
        )
        row_of = {path: row for row, path in enumerate(image_paths)}
        owners = np.array([-1 if image is None else row_of.get(image, -1) for image in captions.images], np.int64)
        with _synced(self.folder / f"caption-images-{name}.npy") as file:
            np.save(file, owners)
        return self._entry(
            f"captions-{name}.parquet",
            f"caption-vectors-{name}.faiss",
            f"texts-{name}.bin",
            len(captions),
            owners=f"caption-images-{name}.npy",
        )

    def _take_images(self, vectors: VectorFileWriter, rows: ImageRows, wanted: np.ndarray, journal: Journal) -> None:
        """Bring the journal's embeddings, hashes and image sizes to their rows."""
        position = {rows.paths[row]: int(row) for row in np.flatnonzero(wanted)}
        for batch in journal.batches():
            encoded = ImageRows.from_columns(batch)
            pairs = [(position[path], row) for row, path in enumerate(encoded.paths) if path in position]
            pairs = [
                (place, row)
                for place, row in pairs
                if rows.size[place] == encoded.size[row] and rows.mtime[place] == encoded.mtime[row]
            ]
            if pairs:
                places, sources = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
                vectors.write(places, vectors_of(batch.column("embedding"))[sources])
                rows.copy_rows(places, encoded, sources)
                wanted[places] = False
        if wanted.any():
            path = rows.paths[int(np.flatnonzero(wanted)[0])]
            raise BrokenIndex(f"{shown_path(self.folder)}: no embedding for {shown_path(path)}")

    def _write_table(
        self, name: str, schema: pa.Schema, rows: ImageRows | CaptionRows, vectors: VectorFileWriter
    ) -> None:
        with _synced(self.folder / name) as file, TableWriter(file, schema) as table:
            for first in range(0, len(rows), ROW_GROUP):
                last = min(first + ROW_GROUP, len(rows))
                embeddings = vector_array(vectors.read(first, last), self.dtype)
                table.write({**rows.columns(first, last), "embedding": embeddings})

    def _write_strings(self, name: str, strings: Iterable[bytes], count: int) -> None:
        with _synced(self.folder / name) as file:
            write_strings(file, strings, count)

    def _entry(self, table: str, vectors: str, strings: str, rows: int, owners: str | None = None) -> VectorIndexEntry:
        """Make the searchable file from the unsorted vectors, as exact or approximate as their number asks for."""
        flat = self.folder / f"unsorted-{self.number:06d}.faiss"
        choice = choose_index(rows, self.identity.dimension, self.dtype, factory=self.factory)
        search: dict[str, Any] = {}
        if choice.factory is not None:
            from bt_cli.store.approximate_index import build_approximate

            choice, search = build_approximate(flat, self.folder / vectors, choice)
        if choice.factory is None:
            os.replace(flat, self.folder / vectors)
        else:
            os.unlink(flat)
        return VectorIndexEntry(
            rows,
            table,
            vectors,
            strings,
            kind=choice.factory or "exact",
            reason=choice.reason,
            search=search,
            owners=owners,
        )


def _copy_vectors(vectors: VectorFileWriter, table: Path, from_table: np.ndarray) -> None:
    """Bring embeddings of an old table to the rows that name them, one row group at a time."""
    order = np.argsort(from_table, kind="stable")
    sources = from_table[order]
    first = 0
    for group in read_embeddings(table):
        begin, end = np.searchsorted(sources, [first, first + len(group)])
        places, rows = order[begin:end], sources[begin:end] - first
        ascending = np.argsort(places)
        vectors.write(places[ascending], group[rows[ascending]])
        first += len(group)


def _copy_texts(
    vectors: VectorFileWriter, texts: list[str], embeddings: np.ndarray, places: dict[str, list[int]], missing: set[str]
) -> None:
    pairs = [(place, row) for row, text in enumerate(texts) if text in missing for place in places[text]]
    if pairs:
        pairs.sort()
        positions, rows = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
        vectors.write(positions, embeddings[rows])
        missing.difference_update(texts)


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[IO[bytes]]:
    """A new file that is on the disk when the block ends."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
