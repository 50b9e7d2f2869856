"""A damaged Parquet table of an index, written anew from what is whole beside it: nothing is encoded again.

Vectors and strings lie in files of their own, which prove themselves block by block; captions' images likewise. Of
what the table alone has, a column of a row group is taken where its pages can be read, or else found out from the
image file. None of that is believed for itself: it is written as a table, and where this has the block sums of the
one that is damaged it is that one, byte for byte. Where it has not (images changed since, another pyarrow writes
otherwise), what lay in whole blocks is kept, and of the other rows nothing but path and embedding: an image that is
there is then encoded again, a row of one that is away stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.embeddings.embedding_table import (
    ROW_GROUP,
    TableWriter,
    caption_schema,
    image_schema,
    nanoseconds,
    reading,
    vector_array,
)
from bt_cli.embeddings.image_rows import ARRAYS, HASH, ImageRows
from bt_cli.embeddings.kept_columns import kept_array
from bt_cli.embeddings.photo_columns import PHOTO_COLUMNS, column_array, without_photo_columns
from bt_cli.embeddings.vector_file import VectorFile
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import BLOCK, BlockSums, CheckedBytes, damaged
from bt_cli.files.plain_file import open_plain
from bt_cli.paths.string_table import StringTable
from bt_cli.store.manifest import Manifest, Piece
from bt_cli.store.piece import sums_of
from bt_cli.store.piece_writer import CaptionRows

if TYPE_CHECKING:
    import pyarrow as pa

Facts = Callable[[str], ImageRows | None]
"""Of a stored path: its row as it would be now; None where unknown."""
KeptOf = Callable[[Sequence[str], Sequence[str]], dict[str, np.ndarray]]
"""Of names of kept columns and stored paths: what the images' sources say now, (n,) objects by name."""
FOOTER = 8
"""Bytes at the end of a Parquet file: the length of what stands before them, and its mark."""


class TableMending:
    """Makes one piece's table anew.

    Args:
        folder: The index folder.
        manifest: That names the piece.
        entry: The piece; its vectors, strings and sums have to be whole.

    Raises:
        BrokenIndex: They are not, or the first format keeps no sums.
        FileNotFoundError: One is missing.
    """

    def __init__(self, folder: Path, manifest: Manifest, entry: Piece) -> None:
        self.folder = folder
        self.manifest = manifest
        self.entry = entry
        self.sums = sums_of(folder, entry)
        self.flat = VectorFile(folder / entry.vectors, self.sums[entry.vectors])
        self.flat.require(0, self.flat.rows)
        strings = StringTable(folder / entry.strings, self.sums[entry.strings])
        strings.whole()
        self.strings = [strings[number] for number in range(len(strings))]
        made = manifest.identity, manifest.store_dtype, manifest.home
        self.schema = (
            caption_schema(*made) if entry.owners else image_schema(*made, kind=manifest.kind, keep=entry.keep)
        )
        self.schemas = [self.schema, without_photo_columns(self.schema)]
        may_be_null = {"caption_id", *PHOTO_COLUMNS, *entry.keep}
        self._damaged = _DamagedTable(
            folder / entry.table, self.sums[entry.table], entry.rows, self.schemas, may_be_null
        )

    def images(self, target: Path, facts: Facts, kept: KeptOf | None = None) -> int:
        """Write the table of images to `target`; how many of its rows say nothing but path and embedding.

        No file has the size and the hash of a row that is blank, so an image that is there is encoded again.
        """
        rows = ImageRows.blank([os.fsdecode(path) for path in self.strings])
        rows.keep(self.entry.keep)
        schema = self._damaged.schema or self.schema
        read, proved = np.ones(len(rows), bool), np.ones(len(rows), bool)
        for name in self._names(schema):
            for first, last in self._damaged.groups():
                values = self._damaged.values(name, first)
                read[first:last] &= values is not None
                proved[first:last] &= values is not None and self._damaged.is_whole(name, first)
                if values is not None and name in rows.kept:
                    rows.kept[name][first:last] = kept_array(values)
                elif values is not None:
                    getattr(rows, name)[first:last] = _numbers(name, values)
        known = [self._damaged.schema] if self._damaged.schema else self.schemas
        found = self._found_out(rows, ~read, facts, kept)
        if any(self._is_restored(target, each, found) for each in known):
            return 0
        if read.any():  # the table may be whole and another index's: then nothing of it is this one's
            found = self._found_out(rows, np.ones(len(rows), bool), facts, kept)
            if any(self._is_restored(target, each, found) for each in self.schemas):
                return 0
        unproved = np.flatnonzero(~proved)
        blank = ImageRows.blank([""])
        blank.keep(self.entry.keep)
        rows.copy_rows(unproved, blank, np.zeros_like(unproved))
        self._write(target, schema, rows)
        return int((~proved).sum())

    def _names(self, schema: pa.Schema) -> list[str]:
        """The columns that a table has; one of an earlier version has fewer."""
        return [name for name in [*ARRAYS, *self.entry.keep] if name in schema.names]

    @staticmethod
    def _found_out(rows: ImageRows, unknown: np.ndarray, facts: Facts, kept: KeptOf | None) -> ImageRows:
        """The rows, those that are `unknown` as their files are now."""
        found = ImageRows.joined([rows])  # a copy
        blank = ImageRows.blank([""])
        for row in np.flatnonzero(unknown).tolist():
            found.copy_rows([row], facts(found.paths[row]) or blank, [0])
        places = np.flatnonzero(unknown)
        if kept is not None and rows.kept and len(places):
            for name, values in kept(list(rows.kept), [found.paths[row] for row in places.tolist()]).items():
                found.kept[name][places] = values
        return found

    def captions(self, target: Path, image_of: Callable[[int], str | None], owners: np.ndarray) -> None:
        """Write the table of captions to `target`; `image_of` gives the stored path for one of `owners`.

        Raises:
            BrokenIndex: Their ids can't be known: nothing but the table has them.
        """
        texts = [text.decode("utf-8") for text in self.strings]
        images = [image_of(int(owner)) for owner in owners]
        schema = self._damaged.schema or self.schema
        ids: list[str | None] = [None] * len(texts)
        sure = True
        for first, last in self._damaged.groups():
            values = self._damaged.values("caption_id", first)
            sure &= values is not None and self._damaged.is_whole("caption_id", first)
            if values is not None:
                ids[first:last] = values.to_pylist()
        rows = CaptionRows(texts, images, ids, self.manifest.caption_files)
        if self._is_restored(target, schema, rows) or sure:
            return
        rows.caption_ids = [None] * len(texts)
        if not self._is_restored(target, schema, rows):
            raise self._damaged.error

    def _is_restored(self, target: Path, schema: pa.Schema, rows: ImageRows | CaptionRows) -> bool:
        """Write the table, and say whether it is the one that was damaged."""
        try:
            self._write(target, schema, rows)
        except (ValueError, UnicodeDecodeError, OverflowError):
            return False  # values that were never written
        with open_plain(target) as file:
            return BlockSums.of(file) == self.sums[self.entry.table]

    def _write(self, target: Path, schema: pa.Schema, rows: ImageRows | CaptionRows) -> None:
        with open(target, "wb") as file, TableWriter(file, schema) as table:
            for first in range(0, len(rows), ROW_GROUP):
                last = min(first + ROW_GROUP, len(rows))
                embeddings = vector_array(self.flat.vectors[first:last], self.manifest.store_dtype)
                table.write({**rows.columns(first, last), "embedding": embeddings})


class _DamagedTable:
    """What can be read of it.

    Attributes:
        schema: With the metadata; None where the end of the file can't be read, or its columns are others.
        error: What is wrong with it.
    """

    def __init__(
        self, path: Path, sums: BlockSums | None, rows: int, expected: Sequence[pa.Schema], may_be_null: set[str]
    ) -> None:
        self.may_be_null = may_be_null
        self.expected = expected
        self.path = path
        self.rows = rows
        self.error = damaged(path)
        self.schema: pa.Schema | None = None
        self._whole = np.zeros(0, bool)
        self._ends_whole = False
        self._file: Any = None
        with contextlib.suppress(BrokenIndex, OSError):
            self._open(sums)

    def _open(self, sums: BlockSums | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        with open_plain(self.path) as file:
            found = BlockSums.of(file)
            file.seek(0)
            content = CheckedBytes(self.path, file, None).content
        if sums is not None:
            both = min(len(found.sums), len(sums.sums))
            self._whole = np.zeros(len(found.sums), bool)
            self._whole[:both] = (found.sums[:both] == sums.sums[:both]) & (found.size == sums.size)
        with reading(self.path):
            file = pyarrow.parquet.ParquetFile(pa.py_buffer(content), page_checksum_verification=True)
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
            rows_fit = sizes == [last - first for first, last in self.groups()]
            if rows_fit and any(file.schema_arrow.equals(schema) for schema in self.expected):
                self._file, self.schema = file, file.schema_arrow
                tail = FOOTER + int.from_bytes(content[-FOOTER:-4].tobytes(), "little")
                self._ends_whole = self._are_whole(len(content) - tail, len(content))

    def groups(self) -> Iterator[tuple[int, int]]:
        """First and last row of each row group, as it was written."""
        for first in range(0, self.rows, ROW_GROUP):
            yield first, min(first + ROW_GROUP, self.rows)

    def values(self, name: str, first: int) -> pa.Array | None:
        """A column of the row group that begins with a row; None where its pages are not what was written."""
        if self._file is None:
            return None
        with contextlib.suppress(BrokenIndex, MemoryError), reading(self.path):
            column = self._file.read_row_group(first // ROW_GROUP, columns=[name]).column(name).combine_chunks()
            if len(column) == min(ROW_GROUP, self.rows - first) and (name in self.may_be_null or not column.null_count):
                return column
        return None

    def is_whole(self, name: str, first: int) -> bool:
        """Whether that column lies, and is found, in blocks that are what was written."""
        if self._file is None or not self._ends_whole:
            return False
        group = self._file.metadata.row_group(first // ROW_GROUP)
        column = group.column(self._file.schema_arrow.names.index(name))
        begin = column.dictionary_page_offset or column.data_page_offset
        return column.path_in_schema == name and self._are_whole(begin, begin + column.total_compressed_size)

    def _are_whole(self, first: int, last: int) -> bool:
        return first >= 0 and bool(self._whole[first // BLOCK : (last - 1) // BLOCK + 1].all())


def _numbers(name: str, values: pa.Array) -> np.ndarray:
    """A column as `ImageRows` has it."""
    if name in PHOTO_COLUMNS:
        return column_array(name, values)
    return np.array(values.to_pylist(), HASH) if name == "content_hash" else nanoseconds(values)
