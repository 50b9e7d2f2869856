"""The files of a piece of an index: table, vectors and strings, each written once, in order, and synced.

No step holds all vectors in memory: they go from the pieces that are taken up and the journal to their rows of the
vector file, and from there in order into the Parquet table.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.embedding_table import (
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
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.index_choice import Choice
from bt_cli.embeddings.journal import Journal
from bt_cli.embeddings.vector_file import VectorFileWriter
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import write_sums
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.string_table import write_strings
from bt_cli.store.manifest import Piece
from bt_cli.store.stored_rows import StoredRows

if TYPE_CHECKING:
    import pyarrow as pa

    from bt_cli.store.list_file import ListSource


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
        table = read_columns(path, ["caption", "image", "image_path_bytes", "image_bytes", "caption_id"])
        with reading(path):
            raw = "image_path_bytes" if "image_path_bytes" in table.column_names else "image_bytes"
            names = zip(table.column("image").to_pylist(), table.column(raw).to_pylist(), strict=True)
            images = [None if text is None else paths_of([text], [raw])[0] for text, raw in names]
            return cls(table.column("caption").to_pylist(), images, table.column("caption_id").to_pylist(), files)

    def columns(self, first: int, last: int) -> dict[str, Any]:
        """Rows `first` to `last` as columns of a caption table, all but the embeddings."""
        images = self.images[first:last]
        texts, raw = path_columns([image or "" for image in images])
        return {
            "caption": self.texts[first:last],
            "image": [text if image is not None else None for text, image in zip(texts, images, strict=True)],
            "image_path_bytes": raw,
            "caption_id": self.caption_ids[first:last],
        }


class PieceWriter:
    """Writes files into an index folder; nothing refers to them until a manifest does.

    Args:
        folder: The index folder.
        identity, dtype, home, kind: Of the next generation.
        number: Gives the next number for names of files.
        keep: Columns that a table of images carries along.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        dtype: str,
        home: str,
        kind: str,
        number: Callable[[], int],
        keep: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.identity = identity
        self.dtype = dtype
        self.home = home
        self.number = number
        self.keep = list(keep)

    def write_images(self, rows: ImageRows, source: np.ndarray, stored: StoredRows, journal: Journal) -> Piece:
        """A piece with these images, in the order of their paths.

        Args:
            rows: In that order; those that come from the journal need only path, size, mtime and what is kept.
            source: (n,) int64: the id in `stored` that has the embedding, or -1: it is in the journal.
            stored: The index as it stands.
            journal: Of this run and interrupted ones.

        Raises:
            BrokenIndex: A row is neither in the index nor in the journal.
        """
        name = f"{self.number():06d}"
        unsorted = self.folder / f"unsorted-{name}.faiss"
        schema = image_schema(self.identity, self.dtype, self.home, kind=self.kind, keep=self.keep)
        rows.keep(self.keep)
        with VectorFileWriter(unsorted, len(rows), self.identity.dimension, self.dtype) as vectors:
            known = np.flatnonzero(source >= 0)
            pieces, places = stored.placed(source[known])
            for number, part in enumerate(stored.pieces):
                mine = pieces == number
                part.copy_vectors(vectors, known[mine], places[mine])
            self._take_images(vectors, rows, source < 0, journal)
            self._write_table(f"images-{name}.parquet", schema, rows, vectors)
        os.replace(unsorted, self.folder / f"vectors-{name}.faiss")
        self._write_strings(f"paths-{name}.bin", map(os.fsencode, rows.paths), len(rows))
        files = f"images-{name}.parquet", f"vectors-{name}.faiss", f"paths-{name}.bin"
        return self._summed(Piece(len(rows), *files, keep=self.keep), f"sums-{name}.bin")

    def write_captions(
        self, captions: CaptionRows, owners: np.ndarray, old_table: Path | None, journal: Journal
    ) -> Piece:
        """The captions; equal texts share one embedding.

        Args:
            captions: All of them.
            owners: (n,) int64: where each one's image is; see `Piece.owners`.
            old_table: The captions as they stand, with embeddings, if there are any.
            journal: Embeddings of this run and interrupted ones.

        Raises:
            BrokenIndex: A text is neither in the old table nor in the journal.
        """
        name = f"{self.number():06d}"
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
            schema = caption_schema(self.identity, self.dtype, self.home)
            self._write_table(f"captions-{name}.parquet", schema, captions, vectors)
        os.replace(unsorted, self.folder / f"caption-vectors-{name}.faiss")
        self._write_strings(
            f"texts-{name}.bin", (text.encode("utf-8", "replace") for text in captions.texts), len(captions)
        )
        piece = Piece(len(captions), f"captions-{name}.parquet", f"caption-vectors-{name}.faiss", f"texts-{name}.bin")
        return self.with_owners(piece, owners, name)

    def with_owners(self, piece: Piece, owners: np.ndarray, name: str | None = None) -> Piece:
        """The captions with other places of their images."""
        name = name or f"{self.number():06d}"
        with _synced(self.folder / f"caption-images-{name}.npy") as file:
            np.save(file, owners)
        return self._summed(replace(piece, owners=f"caption-images-{name}.npy"), f"caption-sums-{name}.bin")

    def with_lists(self, piece: Piece, choice: Choice, before: Sequence[ListSource] = ()) -> Piece:
        """The piece with the index that `choice` names over its vectors, or without one; `before` are the lists of
        pieces that stand, see `build_approximate`."""
        if choice.factory is None:
            if piece.lists is None:
                return replace(piece, kind="exact", reason=choice.reason)
            piece = replace(piece, lists=None, kind="exact", reason=choice.reason, search={})
            return self._summed(piece, self._sums_name(piece))
        from bt_cli.store.approximate_index import build_approximate

        of_captions = piece.table.startswith("captions")
        name = f"{'caption-' if of_captions else ''}lists-{self.number():06d}.faiss"
        choice, search = build_approximate(self.folder / piece.vectors, self.folder / name, choice, before)
        if choice.factory is None:
            return replace(piece, kind="exact", reason=choice.reason)
        piece = replace(piece, lists=name, kind=choice.factory, reason=choice.reason, search=search)
        return self._summed(piece, self._sums_name(piece))

    def _sums_name(self, piece: Piece) -> str:
        return f"{'caption-' if piece.table.startswith('captions') else ''}sums-{self.number():06d}.bin"

    def _summed(self, piece: Piece, name: str) -> Piece:
        """The piece with the sums of its files as they are now."""
        sums = write_sums(self.folder / name, [self.folder / file for file in piece.summed()])
        return replace(piece, sums=name, sums_checksum=sums)

    def _take_images(self, vectors: VectorFileWriter, rows: ImageRows, wanted: np.ndarray, journal: Journal) -> None:
        """Bring the journal's embeddings, hashes and image sizes to their rows."""
        position = {rows.paths[row]: int(row) for row in np.flatnonzero(wanted)}
        for batch in journal.batches() if position else ():
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
