"""The index folder as readers see it: one generation, opened whole, searched without reading the embedding table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bt_cli.embeddings.embedding_table import ROW_GROUP, image_schema, reading
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.kept_columns import with_kept_columns
from bt_cli.embeddings.photo_columns import with_photo_columns
from bt_cli.errors import BtError, Misuse, NoIndex
from bt_cli.files.block_sums import damaged
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.paths.glob import matching_rows
from bt_cli.paths.index_paths import home_of, path_from
from bt_cli.paths.path_text import address_rows
from bt_cli.sources.web_address import is_url
from bt_cli.store.kept_table import KeptTable
from bt_cli.store.manifest import NAME, Manifest, Piece
from bt_cli.store.photo_table import PhotoTable
from bt_cli.store.piece import OpenPiece, open_owners, unreadable
from bt_cli.store.piece import missing as missing_file

if TYPE_CHECKING:
    import pyarrow

FOLDER = ".bt"
BRIDGES = "bridges"
"""Where an index folder keeps the bridge features that `bt index --bridge-cache` made."""
PARTS = "parts"
"""Where it keeps the tables of shards that `bt index --engine` encoded."""
ROW_BITS = 32
"""An image is named by its piece's number and its row in it, one above the other: deleting others changes neither."""
TRIES = 20
"""A reader that meets a generation just replaced takes the next one; so many in a row means a broken folder."""


class _VectorSet:
    """The images or the captions of an index: pieces, opened. Ids count the rows that are there, piece after piece."""

    def __init__(self, folder: Path, entries: list[Piece], dimension: int) -> None:
        self.pieces: list[OpenPiece] = []
        self.dimension = dimension
        self.rows = 0
        for entry in entries:
            self.pieces.append(OpenPiece(folder, entry, dimension, self.rows))
            self.rows += len(self.pieces[-1])

    def __len__(self) -> int:
        return self.rows

    def search(self, vectors: np.ndarray, k: int, *, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows to each of `vectors`.

        Args:
            vectors: (q, d) float32, rows of norm 1.
            k: Wanted.
            ids: (m,) integers: look at these rows alone. Always exact.

        Returns:
            Scores (q, k') float32, descending, and ids (q, k') int64; equal scores by ascending id. `k'` is the
            smallest of k, the number of rows and the number of `ids`. Where an approximate index finds fewer for a
            query, its line ends in scores of minus infinity with id -1. The first five of k = 15 are those of k =
            5.
        """
        queries = np.ascontiguousarray(np.atleast_2d(vectors), dtype=np.float32)
        if queries.shape[1] != self.dimension:
            raise ValueError(f"queries of {queries.shape[1]} dimensions in an index of {self.dimension}")
        if ids is not None:
            ids = np.unique(np.asarray(ids, dtype=np.int64))
        k = min(max(k, 0), self.rows if ids is None else len(ids))
        answers = [piece.search(queries, k, rows) for piece, rows in self._by_piece(ids)]
        if not answers:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        if len(answers) == 1:
            return answers[0]
        scores = np.concatenate([part for part, _ in answers], axis=1)
        found = np.concatenate([part for _, part in answers], axis=1)
        order = np.lexsort((np.where(found < 0, self.rows, found), -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """The stored vectors of rows `ids`, (n, d) float32."""
        ids = np.asarray(ids, dtype=np.int64)
        vectors = np.empty((len(ids), self.dimension), np.float32)
        for piece in self.pieces:
            mine = (ids >= piece.first) & (ids < piece.first + len(piece))
            vectors[mine] = piece.vectors_of(piece.rows_of_ids(ids[mine]))
        return vectors

    def string(self, number: int) -> bytes:
        """The path or text of an id."""
        for piece in self.pieces:
            if number < piece.first + len(piece):
                return piece.strings[int(piece.rows_of_ids(np.array([number]))[0])]
        raise IndexError(number)

    def _by_piece(self, ids: np.ndarray | None) -> Iterator[tuple[OpenPiece, np.ndarray | None]]:
        for piece in self.pieces:
            if ids is None:
                yield piece, None
                continue
            mine = ids[np.searchsorted(ids, piece.first) : np.searchsorted(ids, piece.first + len(piece))]
            if len(mine):
                yield piece, piece.rows_of_ids(mine)


class CaptionIndex(_VectorSet):
    """The captions that were given at indexing, for an index of the images in `pieces`."""

    def __init__(self, folder: Path, manifest: Manifest, entry: Piece, images: list[OpenPiece]) -> None:
        super().__init__(folder, [entry], manifest.identity.dimension)
        self.images = {piece.entry.number: piece for piece in images}
        self.by_row = manifest.format == 1
        """Whether owners are rows of the one piece that the first format has."""
        piece = self.pieces[0]
        self.owners = open_owners(folder, entry, piece.sums[entry.owners or ""] if entry.owners else None)
        self._owners_path = folder / (entry.owners or "")

    def texts(self, ids: Any) -> list[str]:
        """The captions' texts."""
        try:
            return [self.string(int(number)).decode("utf-8") for number in ids]
        except UnicodeDecodeError as error:
            raise self.pieces[0].strings.broken() from error

    def image_ids(self, ids: Any) -> np.ndarray:
        """The id of each caption's image, (n,) int64; -1 where the index does not hold the image."""
        owners = np.asarray(self.owners[np.asarray(ids, dtype=np.int64)], dtype=np.int64)
        if self.by_row:
            owners = np.where(owners < 0, owners, owners | next(iter(self.images)) << ROW_BITS)
        found = np.full(len(owners), -1, np.int64)
        known = owners == -1
        for number, piece in self.images.items():
            mine = (owners >= 0) & (owners >> ROW_BITS == number)
            rows = owners[mine] & ((1 << ROW_BITS) - 1)
            if (rows >= piece.entry.rows).any():
                raise damaged(self._owners_path)
            found[mine] = piece.ids_of_rows(rows)
            known |= mine
        if not known.all():
            raise damaged(self._owners_path)
        return found

    def batches(self, rows: int = ROW_GROUP) -> Iterator[pyarrow.Table]:
        """The table of the captions in the order of their ids, some rows at a time. Raises BrokenIndex."""
        piece = self.pieces[0]
        path = piece.folder / piece.entry.table
        with reading(path), open_plain(path) as file:
            yield from _live_batches(piece, file, rows)


class IndexFolder(_VectorSet):
    """One generation of an index, opened for reading. Its files stay readable when a writer replaces it.

    Attributes:
        folder: The index folder.
        manifest: What it says of itself.
        captions: The captions given at indexing, or None.
        photos: How the images were taken.
        kept: What was carried along from the images' sources.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(folder, manifest.pieces, manifest.identity.dimension)
        self.folder = folder
        self.manifest = manifest
        captions = manifest.captions
        self.captions = CaptionIndex(folder, manifest, captions, self.pieces) if captions else None
        # Held open, so that the tables can still be read when a writer has taken their names away.
        self._tables = [open_plain(folder / piece.table) for piece in manifest.pieces]
        self.photos = PhotoTable(self.pieces, self._tables)
        self.kept = KeptTable(self.pieces, self._tables, manifest.keep)
        self._home = home_of(folder, manifest.home)

    @staticmethod
    def locate(explicit: str | os.PathLike[str] | None = None, start: str | os.PathLike[str] | None = None) -> Path:
        """Where the index is: `explicit` if given, else `.bt` in `start` (the working directory) or the nearest above.

        Raises:
            NoIndex: None of these folders has one, or `explicit` has none.
            Misuse: `explicit` is empty.
        """
        if explicit is not None:
            require_name(explicit)
            if not (Path(explicit) / NAME).exists():
                raise NoIndex(
                    f"{shown_path(explicit)}: no index here; bt index FOLDER --index {shown_path(explicit)} makes one"
                )
            return Path(explicit)
        here = Path(os.path.abspath(start or os.curdir))
        for folder in (here, *here.parents):
            if (folder / FOLDER / NAME).exists():
                return folder / FOLDER
        raise NoIndex(f"no index in {shown_path(here)} or above; bt index FOLDER makes one")

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> IndexFolder:
        """Open an index folder: reads the manifest, maps the rest.

        Raises:
            NoIndex: There is none.
            BrokenIndex: Its files are missing or do not fit together.
            IndexMismatch: A later version of bt wrote it.
        """
        folder = Path(folder)
        for _ in range(TRIES):
            manifest = Manifest.read(folder)
            try:
                return cls(folder, manifest)
            except FileNotFoundError as error:
                gone = error
                # A writer may have put a new generation in place since the manifest was read: then take that one.
                if Manifest.read(folder).generation == manifest.generation:
                    break
            except OSError as error:
                raise unreadable(error.filename or folder, error) from error
        raise missing_file(gone.filename or folder) from gone

    @property
    def home(self) -> str:
        """The folder that stored paths start from, absolute: the one above the index folder."""
        return self._home

    @property
    def identity(self) -> Identity:
        """What made the vectors."""
        return self.manifest.identity

    def require(self, identity: Identity) -> None:
        """Refuse a model that made other embeddings than this index holds.

        Raises:
            IndexMismatch: Names both and the way out.
        """
        self.identity.require(identity, f"index {shown_path(self.folder)}")

    def stored_path(self, image_id: int) -> str:
        """The path as the table has it: relative to the folder above the index where below that, else absolute."""
        return os.fsdecode(self.string(image_id))

    def paths(self, ids: Any) -> list[str]:
        """Paths of images `ids`, to be opened and shown from the working directory.

        Relative to the working directory for files below it or when it lies itself below the index's own folder (as
        git shows them), else absolute.
        """
        here = os.getcwd()
        return [self._from_here(self.stored_path(int(number)), here) for number in ids]

    def matching(self, pattern: str) -> np.ndarray:
        """Ids (m,) int64, ascending, of the images whose path matches a glob.

        `*` and `?` match within one component, `**` across them, `[...]` one character. A pattern without `/` is
        compared with the file's name; any other with the whole path or a tail of it that begins a component, and
        one that begins with `/`, `./` or `../` with the whole path. One that ends with `/` means what is in the folders
        that it names, `@eaDir/` those of that name below the indexed folders, at any depth.
        """
        found = []
        for piece in self.pieces:
            text, offsets = piece.strings.whole()
            rows = matching_rows(pattern, self._home, text, offsets)
            addresses = address_rows(text, np.asarray(offsets, np.int64))
            if len(addresses):  # which lie in no folder of this machine
                elsewhere = np.intersect1d(matching_rows(pattern, "", text, offsets), addresses)
                rows = np.union1d(np.setdiff1d(rows, addresses), elsewhere)
            ids = piece.ids_of_rows(rows)
            found.append(ids[ids >= 0])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def table(self, columns: list[str] | None = None) -> pyarrow.Table:
        """The embedding table in the order of the ids, read whole (search does without it). Raises BrokenIndex where it
        is damaged."""
        import pyarrow as pa
        import pyarrow.parquet

        parts = []
        for piece, file in zip(self.pieces, self._tables, strict=True):
            with reading(file.name):
                checked = piece.checked_table(file)
                part = pyarrow.parquet.read_table(checked, columns=columns, page_checksum_verification=True)
                part = self._whole(part) if columns is None else part
                parts.append(part.take(piece.live_rows()) if len(piece.deleted) else part)
        if not parts:
            made = self.identity, self.manifest.store_dtype, self.manifest.home
            empty = image_schema(*made, keep=self.manifest.keep).empty_table()
            return empty if columns is None else empty.select(columns)
        return pa.concat_tables(part.replace_schema_metadata(parts[-1].schema.metadata) for part in parts)

    def batches(self, rows: int = ROW_GROUP) -> Iterator[pyarrow.Table]:
        """The embedding table in the order of the ids, some rows at a time: the memory is that of one batch. Raises
        BrokenIndex."""
        for piece, file in zip(self.pieces, self._tables, strict=True):
            with reading(file.name):
                yield from map(self._whole, _live_batches(piece, file, rows))

    def _whole(self, table: pyarrow.Table) -> pyarrow.Table:
        """A piece's table with every column that the index has."""
        return with_kept_columns(with_photo_columns(table), self.manifest.keep)

    def close(self) -> None:
        """Close what is open; mapped vectors stay as long as they are in use."""
        for file in self._tables:
            file.close()

    def __enter__(self) -> IndexFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _from_here(self, stored: str, here: str) -> str:
        return (
            stored
            if is_url(stored) or (here == self._home and not os.path.isabs(stored))
            else path_from(here, os.path.join(self._home, stored), self._home)
        )


def _live_batches(piece: OpenPiece, file: BinaryIO, rows: int) -> Iterator[pyarrow.Table]:
    """The rows of a piece's table that are there, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet

    first = 0
    with pyarrow.parquet.ParquetFile(piece.checked_table(file), page_checksum_verification=True) as table:
        for batch in table.iter_batches(rows):
            wanted = np.flatnonzero(piece.ids_of_rows(np.arange(first, first + len(batch))) >= 0)
            first += len(batch)
            part = pa.Table.from_batches([batch])
            if len(wanted):
                yield part if len(wanted) == len(part) else part.take(wanted)


def require_name(folder: str | os.PathLike[str]) -> None:
    """Refuse an empty name, which Python takes for the working directory and nobody means.

    Raises:
        Misuse: It is empty.
    """
    if not os.fspath(folder):
        raise Misuse("the index folder's name is empty; leave --index and BT_INDEX out for .bt, or name a folder")


@dataclass(frozen=True)
class IndexPlace:
    """An index folder, there already or to be made."""

    folder: Path
    checkpoint: str | None
    """What made the index that is there; None where there is none, or none that can be understood."""


def index_place(explicit: str | os.PathLike[str] | None) -> IndexPlace:
    """The folder that was named; else `.bt` here, or the nearest one above that is an index, or `.bt` here to be
    made.

    Raises:
        Misuse: The name is empty.
    """
    here = Path(FOLDER)
    if explicit is not None:
        require_name(explicit)
        folder = Path(explicit)
    elif here.is_dir():
        folder = here
    else:
        try:
            folder = IndexFolder.locate()
        except NoIndex:
            folder = here
    try:
        return IndexPlace(folder, Manifest.recovered(folder).identity.checkpoint)
    except BtError:
        return IndexPlace(folder, None)
