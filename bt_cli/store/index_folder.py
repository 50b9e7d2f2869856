"""The index folder as readers see it: one generation, opened whole, searched without reading the embedding table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bt_cli.errors import BrokenIndex, Misuse, NoIndex
from bt_cli.files.shown_path import shown_path
from bt_cli.store.embedding_table import reading
from bt_cli.store.glob import matching_rows
from bt_cli.store.identity import Identity
from bt_cli.store.index_paths import home_of, is_below
from bt_cli.store.manifest import NAME, Manifest, VectorIndexEntry
from bt_cli.store.string_table import StringTable
from bt_cli.store.vector_file import VectorFile

if TYPE_CHECKING:
    import pyarrow
from dataclasses import dataclass

from bt_cli.errors import BtError

FOLDER = ".bt"
BRIDGES = "bridges"
"""Where an index folder keeps the bridge features that `bt index --bridge-cache` made."""
TRIES = 20
"""A reader that meets a generation just replaced takes the next one; so many in a row means a broken folder."""


class VectorIndex(Protocol):
    """An opened FAISS file, exact or approximate."""

    rows: int
    dimension: int

    def search(self, queries: np.ndarray, k: int, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores (q, k') and rows (q, k'); see `VectorFile.search`."""

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Vectors of rows, (n, dimension) float32."""


class _VectorSet:
    """The images or the captions of an index: vectors and strings, mapped."""

    def __init__(self, folder: Path, entry: VectorIndexEntry) -> None:
        self.entry = entry
        self.strings = StringTable(folder / entry.strings)
        self.vectors = _open_vectors(folder / entry.vectors, entry)
        if not len(self.strings) == self.vectors.rows == entry.rows:
            raise BrokenIndex(
                f"{shown_path(folder)}: its files hold different numbers of rows; bt index --rebuild makes it anew"
            )

    def __len__(self) -> int:
        return self.entry.rows

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
        if queries.shape[1] != self.vectors.dimension:
            raise ValueError(f"queries of {queries.shape[1]} dimensions in an index of {self.vectors.dimension}")
        if ids is not None:
            ids = np.unique(np.asarray(ids, dtype=np.int64))
        return self.vectors.search(queries, max(k, 0), ids)

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """The stored vectors of rows `ids`, (n, d) float32."""
        return self.vectors.rows_of(np.asarray(ids, dtype=np.int64))


class CaptionIndex(_VectorSet):
    """The captions that were given at indexing, for an index of `images` images."""

    def __init__(self, folder: Path, entry: VectorIndexEntry, images: int) -> None:
        super().__init__(folder, entry)
        if not entry.owners:
            raise BrokenIndex(f"{shown_path(folder)}: its captions name no images; bt index --rebuild makes it anew")
        self.images = images
        self.owners = _open_owners(folder / entry.owners, entry.rows)
        self._owners_path = folder / entry.owners

    def texts(self, ids: Any) -> list[str]:
        """The captions' texts."""
        try:
            return [self.strings[int(number)].decode("utf-8") for number in ids]
        except UnicodeDecodeError as error:
            raise self.strings.broken() from error

    def image_ids(self, ids: Any) -> np.ndarray:
        """The row of each caption's image, (n,) int64; -1 where the index does not hold the image."""
        owners = np.asarray(self.owners[np.asarray(ids, dtype=np.int64)], dtype=np.int64)
        if ((owners < -1) | (owners >= self.images)).any():
            raise _damaged(self._owners_path)
        return owners


class IndexFolder(_VectorSet):
    """One generation of an index, opened for reading. Its files stay readable when a writer replaces it.

    Attributes:
        folder: The index folder.
        manifest: What it says of itself.
        captions: The captions given at indexing, or None.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(folder, manifest.images)
        self.folder = folder
        self.manifest = manifest
        self.captions = CaptionIndex(folder, manifest.captions, len(self)) if manifest.captions else None
        # Held open, so that the table can still be read when a writer has taken its name away.
        self._table_file = open(folder / manifest.images.table, "rb")  # noqa: SIM115
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
            if not (Path(explicit) / NAME).is_file():
                raise NoIndex(
                    f"{shown_path(explicit)}: no index here; bt index FOLDER --index {shown_path(explicit)} makes one"
                )
            return Path(explicit)
        here = Path(os.path.abspath(start or os.curdir))
        for folder in (here, *here.parents):
            if (folder / FOLDER / NAME).is_file():
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
                missing = error
                # A writer may have put a new generation in place since the manifest was read: then take that one.
                if Manifest.read(folder).generation == manifest.generation:
                    break
        raise BrokenIndex(
            f"{shown_path(missing.filename or folder)}: missing from the index; bt index --rebuild makes it anew"
        ) from missing

    @property
    def identity(self) -> Identity:
        """What made the vectors."""
        return self.manifest.identity

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.vectors.dimension

    def require(self, identity: Identity) -> None:
        """Refuse a model that made other embeddings than this index holds.

        Raises:
            IndexMismatch: Names both and the way out.
        """
        self.identity.require(identity, f"index {shown_path(self.folder)}")

    def stored_path(self, image_id: int) -> str:
        """The path as the table has it: relative to the folder above the index where below that, else absolute."""
        return os.fsdecode(self.strings[image_id])

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
        return matching_rows(pattern, self._home, self.strings.text, self.strings.checked_offsets())

    def table(self, columns: list[str] | None = None) -> pyarrow.Table:
        """The embedding table, read whole (search does without it). Raises BrokenIndex where it is damaged."""
        import pyarrow.parquet

        self._table_file.seek(0)
        with reading(self._table_file.name):
            return pyarrow.parquet.read_table(self._table_file, columns=columns, page_checksum_verification=True)

    def close(self) -> None:
        """Close what is open; mapped vectors stay as long as they are in use."""
        self._table_file.close()

    def __enter__(self) -> IndexFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _from_here(self, stored: str, here: str) -> str:
        if os.path.isabs(stored):
            return os.path.relpath(stored, here) if is_below(stored, here) else stored
        if here == self._home:
            return stored
        absolute = os.path.join(self._home, stored)
        return os.path.relpath(absolute, here) if is_below(here, self._home) or is_below(absolute, here) else absolute


def require_name(folder: str | os.PathLike[str]) -> None:
    """Refuse an empty name, which Python takes for the working directory and nobody means.

    Raises:
        Misuse: It is empty.
    """
    if not os.fspath(folder):
        raise Misuse("the index folder's name is empty; leave --index and BT_INDEX out for .bt, or name a folder")


def _open_owners(path: Path, rows: int) -> np.ndarray:
    """The row of each caption's image, (rows,) int64, mapped."""
    try:
        owners = np.load(path, mmap_mode="r")
    except Exception as error:  # numpy takes the header for Python, which a damaged one may fail at in any way
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(path) from error
    if not isinstance(owners, np.ndarray) or owners.shape != (rows,) or owners.dtype != np.int64:
        raise _damaged(path)
    return owners


def _damaged(path: Path) -> BrokenIndex:
    return BrokenIndex(f"{shown_path(path)}: damaged; bt index --rebuild makes it anew")


def _open_vectors(path: Path, entry: VectorIndexEntry) -> VectorIndex:
    if entry.kind == "exact":
        return VectorFile(path)
    from bt_cli.store.approximate_index import ApproximateIndex

    return ApproximateIndex(path, entry)


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
        return IndexPlace(folder, Manifest.read(folder).identity.checkpoint)
    except BtError:
        return IndexPlace(folder, None)
