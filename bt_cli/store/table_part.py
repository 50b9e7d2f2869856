"""A Parquet table that `bt encode images` wrote, as a source of an index's rows: who made it, its rows, its vectors."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from bt_cli.embeddings.embedding_table import paths_of, reading
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import COLUMNS, HASH, ImageRows
from bt_cli.embeddings.kept_columns import kept_in
from bt_cli.errors import BrokenIndex, IndexMismatch, UnreadableTable
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.web_address import is_url
from bt_cli.store.manifest import Piece
from bt_cli.store.stored_rows import ROWS_AT_A_TIME, StoredPiece, digests_of, joined_paths, path_array

if TYPE_CHECKING:
    import pyarrow as pa

    from bt_cli.embeddings.vector_file import VectorFileWriter

CAPTIONS = "captions"
DTYPES = {"halffloat": "float16", "float": "float32"}


@dataclass(frozen=True)
class TablePart:
    """What the end of a table's file says of it; none of its rows has been read.

    Attributes:
        path: The Parquet file.
        rows: How many images it holds.
        identity: What made its embeddings.
        dtype: In what precision they are kept, `float16` or `float32`.
        kind: What they are of, as `Manifest.kind`.
        home: The folder that its relative paths start from.
        source: The shard that it was made of, as `bt encode` names it, or "".
        stamp: By which a changed shard is known, or "".
        exclude: What was left out of the shard, or "".
        keep: Columns that it carries along.
    """

    path: Path
    rows: int
    identity: Identity
    dtype: str
    kind: str
    home: str
    source: str = ""
    stamp: str = ""
    exclude: str = ""
    keep: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TablePart:
        """Read the end of the file.

        Raises:
            NotFound: It is not there.
            UnreadableTable: It is damaged, no table of bt's, or one of captions or pairs.
        """
        return cls.read(path, path)

    @classmethod
    def read(cls, source: str | os.PathLike[str] | BinaryIO, path: str | os.PathLike[str]) -> TablePart:
        """As `open`, of a file that is open already, or at another place than `path`, which names it in errors."""
        import pyarrow as pa
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(source) as file:
                return cls._of(Path(path), file.metadata.num_rows, file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise UnreadableTable(f"{shown_path(path)}: no table that can be read: {reason}") from error

    @classmethod
    def _of(cls, path: Path, rows: int, schema: pa.Schema) -> TablePart:
        made = {key.decode("utf-8", "replace"): value for key, value in (schema.metadata or {}).items()}
        texts = {key: os.fsdecode(value) for key, value in made.items() if key.startswith("bt.")}
        kind = texts.get("bt.kind", "")
        if kind in (CAPTIONS, "pairs") and "caption" in schema.names:
            raise UnreadableTable(f"{shown_path(path)}: a table of {kind}; an index is made from tables of images")
        missing = [name for name in [*COLUMNS, "embedding"] if name not in schema.names]
        if missing or "bt.fingerprint" not in texts:
            raise UnreadableTable(
                f"{shown_path(path)}: no table of images: it lacks {missing[0] if missing else 'what made it'}; "
                "bt encode images writes them"
            )
        vectors = schema.field("embedding").type
        dtype = DTYPES.get(str(getattr(vectors, "value_type", "")))
        try:
            identity = Identity.from_dict(
                {
                    **{name: texts[f"bt.{name}"] for name in ("checkpoint", "fingerprint", "preprocessing")},
                    "precision": texts["bt.precision"],
                    "dimension": int(texts["bt.dimension"]),
                }
            )
        except (KeyError, ValueError, BrokenIndex) as error:
            raise UnreadableTable(f"{shown_path(path)}: does not say what made it: {error}") from error
        if dtype is None or getattr(vectors, "list_size", 0) != identity.dimension:
            raise UnreadableTable(f"{shown_path(path)}: embeddings of {vectors}, not of {identity.dimension} numbers")
        return cls(
            path,
            rows,
            identity,
            dtype,
            kind,
            texts.get("bt.home", ""),
            texts.get("bt.source", ""),
            texts.get("bt.stamp", ""),
            texts.get("bt.exclude", ""),
            tuple(kept_in(schema)),
        )

    def read_rows(self, home: str) -> ImageRows:
        """Its rows, without embeddings, with paths as an index stores them whose relative ones start from `home`.

        Raises:
            UnreadableTable: It is damaged.
        """
        try:
            rows = ImageRows.read(self.path)
        except BrokenIndex as error:
            raise self._damaged(error) from error
        rows.paths = self._stored(rows.paths, home)
        return rows

    def read_paths(self, home: str) -> tuple[pa.Array, np.ndarray]:
        """Of all its rows the paths' bytes as an index whose relative ones start from `home` has them, (n,)
        large_binary, and the content hashes, (n,) S64; a value of Python's is made for some thousands at a time.

        Raises:
            UnreadableTable: It is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet

        names: list[pa.Array] = []
        hashes = [np.empty(0, HASH)]
        try:
            with reading(self.path), pyarrow.parquet.ParquetFile(self.path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["path", "path_bytes", "content_hash"]):
                    texts, raw = batch.column("path"), batch.column("path_bytes")
                    if self.home == home and raw.null_count == len(raw) and not texts.null_count:
                        names.append(texts.cast(pa.large_string()).cast(pa.large_binary()))
                    else:
                        names.append(path_array(self._stored(paths_of(texts.to_pylist(), raw.to_pylist()), home)))
                    hashes.append(digests_of(batch.column("content_hash")))
        except BrokenIndex as error:
            raise self._damaged(error) from error
        return joined_paths(names), np.concatenate(hashes)

    def _stored(self, paths: list[str], home: str) -> list[str]:
        """Paths of the table as an index whose relative ones start from `home` has them."""
        if self.home == home:
            return paths
        below = home.rstrip(os.sep) + os.sep
        absolute = [path if is_url(path) else os.path.normpath(os.path.join(self.home, path)) for path in paths]
        return [path.removeprefix(below) for path in absolute]

    def as_piece(self) -> StoredPiece:
        """Its rows as those of an index's piece, to copy vectors from."""
        return _PartPiece(self)

    def _damaged(self, error: Exception) -> UnreadableTable:
        reason = str(error).partition(": ")[2].partition(";")[0]
        return UnreadableTable(f"{shown_path(self.path)}: {reason or 'damaged'}; encode its images again")


class _PartPiece(StoredPiece):
    def __init__(self, part: TablePart) -> None:
        super().__init__(
            part.path.parent, Piece(part.rows, part.path.name, "", "", keep=list(part.keep)), from_table=True
        )
        self.part = part

    def copy_vectors(self, target: VectorFileWriter, places: np.ndarray, rows: np.ndarray) -> None:
        """As of any piece; refuses numbers that are none, which would be found in every search."""
        try:
            super().copy_vectors(_Finite(target), places, rows)  # type: ignore[arg-type]
        except BrokenIndex as error:
            raise self.part._damaged(error) from error


class _Finite:
    def __init__(self, target: VectorFileWriter) -> None:
        self.target = target

    def write(self, positions: np.ndarray, vectors: np.ndarray) -> None:
        if not np.isfinite(vectors).all():
            raise BrokenIndex("table: holds embeddings that are no numbers;")
        self.target.write(positions, vectors)


def same_maker(parts: list[TablePart]) -> Identity:
    """What made all of these tables: their precisions, which may differ, joined.

    Raises:
        IndexMismatch: Two were made by other checkpoints or with other preprocessing, keep embeddings in other
            precisions, or embed other things; names both tables.
    """
    first = parts[0]
    for part in parts[1:]:
        for what, mine, theirs in (
            ("checkpoint", _maker(first.identity), _maker(part.identity)),
            ("preprocessing", first.identity.preprocessing, part.identity.preprocessing),
            ("dimension", first.identity.dimension, part.identity.dimension),
            ("stored precision", first.dtype, part.dtype),
            ("kind", first.kind, part.kind),
        ):
            if mine != theirs:
                raise IndexMismatch(
                    f"{shown_path(part.path)}: {what} {theirs}, and {shown_path(first.path)} has {mine}; an index "
                    "takes tables that one checkpoint made in one way"
                )
    precisions = dict.fromkeys(name for part in parts for name in part.identity.precision.split("+"))
    return replace(first.identity, precision="+".join(precisions))


def _maker(identity: Identity) -> str:
    return f"{identity.checkpoint} ({identity.fingerprint[:12]})"
