"""Vectors in a flat FAISS file: written row by row at any place, searched exactly, mapped and never loaded.

The file is what `faiss.write_index` writes for an `IndexFlat` (float32) or an `IndexScalarQuantizer` of type fp16
(float16), inner product, so `faiss.read_index` reads it. The rows lie behind a short header one after another; this
module knows that header, and so neither writing nor an exact search needs FAISS or torch, whose imports cost more than
the search.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from bt_cli.embeddings.widening import finite_float16, widen_float16
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import WAY_OUT, BlockSums, CheckedBytes
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path

HEAD = struct.Struct("<4siqqqBi")
"""Kind, dimension, rows, two fields that FAISS ignores, whether trained, metric (0: inner product)."""
FP16_QUANTIZER = struct.Struct("<iifQQQ")
"""Quantizer type, range statistic and its argument, dimension, bytes a row, trained values (none)."""
COUNT = struct.Struct("<Q")
UNUSED = 1 << 20
QT_FP16 = 4
INNER_PRODUCT = 0

DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
SCAN_ELEMENTS = 1 << 20
"""Elements of the block that is widened to float32 at a time: 4 MiB, which stays in the processor's cache."""
SCORE_ELEMENTS = 1 << 24
"""Scores held at a time (64 MiB): queries beyond are taken in further turns."""
SCORE_NOISE = 4e-6
"""What the fast float32 sums may be off by, at most: they depend on where a row stands in its block."""


def file_header(rows: int, dimension: int, dtype: str) -> bytes:
    """The bytes before the first row."""
    if dtype == "float32":
        head = HEAD.pack(b"IxFI", dimension, rows, UNUSED, UNUSED, 1, INNER_PRODUCT)
        return head + COUNT.pack(rows * dimension)
    head = HEAD.pack(b"IxSQ", dimension, rows, UNUSED, UNUSED, 1, INNER_PRODUCT)
    return head + FP16_QUANTIZER.pack(QT_FP16, 0, 0.0, dimension, 2 * dimension, 0) + COUNT.pack(rows * dimension * 2)


class VectorFileWriter:
    """A vector file in the making: rows may come in any order, each is written where it belongs.

    Nothing is kept in memory. `close` syncs the file to disk. Used as a context manager, it closes at the end.
    """

    def __init__(self, path: str | os.PathLike[str], rows: int, dimension: int, dtype: str) -> None:
        self.dtype = DTYPES[dtype]
        self.dimension = dimension
        self.rows = rows
        header = file_header(rows, dimension, dtype)
        self.start = len(header)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
        _write_at(self.descriptor, header, 0)
        os.ftruncate(self.descriptor, self.start + rows * dimension * self.dtype.itemsize)

    def write(self, positions: np.ndarray, vectors: np.ndarray) -> None:
        """Write `vectors` ((n, d), any float) as the rows `positions` ((n,) int); neighbours go in one piece."""
        stored = np.ascontiguousarray(vectors, dtype=self.dtype)
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(positions)], strict=True):
            if last > first:
                offset = self.start + int(positions[first]) * self.dimension * self.dtype.itemsize
                _write_at(self.descriptor, stored[first:last].data.cast("B"), offset)

    def read(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` (n, d) as stored."""
        row_bytes = self.dimension * self.dtype.itemsize
        content = os.pread(self.descriptor, (last - first) * row_bytes, self.start + first * row_bytes)
        return np.frombuffer(content, self.dtype).reshape(-1, self.dimension)

    def close(self) -> None:
        """Sync to disk and close."""
        if self.descriptor >= 0:
            try:
                os.fsync(self.descriptor)
            finally:
                os.close(self.descriptor)
                self.descriptor = -1

    def __enter__(self) -> VectorFileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VectorFile:
    """A vector file, mapped: opening it reads the header alone.

    Attributes:
        rows: Number of vectors.
        dimension: Their length.
        vectors: (rows, dimension) float16 or float32, mapped and not to be written.
    """

    def __init__(self, path: str | os.PathLike[str], sums: BlockSums | None = None) -> None:
        self.path = path
        with open_plain(path) as file:
            self.checked = CheckedBytes(path, file, sums)
            head = self.checked.content[: HEAD.size + FP16_QUANTIZER.size + COUNT.size].tobytes()
            self.checked.require(0, len(head))
            self.rows, self.dimension, dtype = _read_header(head, path)
            self.start = len(file_header(self.rows, self.dimension, dtype))
            self.row_bytes = self.dimension * DTYPES[dtype].itemsize
            shape = (self.rows, self.dimension)
            if len(self.checked.content) < self.start + self.rows * self.row_bytes:
                raise BrokenIndex(f"{shown_path(path)}: shorter than its header says; {WAY_OUT}")
            # The bytes that are proved, in the one map: a page that was compared is not fetched a second time.
            rows = self.checked.content[self.start : self.start + self.rows * self.row_bytes]
            self.vectors = rows.view(DTYPES[dtype]).reshape(shape)

    def require(self, first: int, last: int) -> None:
        """Check rows `first` to `last`. Raises BrokenIndex where they are not what was written."""
        self.checked.require(self.start + first * self.row_bytes, self.start + last * self.row_bytes)

    def search(
        self, queries: np.ndarray, k: int, ids: np.ndarray | None = None, without: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `k` rows of largest inner product with each query, exactly.

        Args:
            queries: (q, dimension) float32.
            k: Wanted; no more than there are rows (or `ids`) come back.
            ids: (m,) int64, ascending: only these rows are looked at.
            without: (m,) int64, ascending: these rows are passed over; not together with `ids`.

        Returns:
            Scores (q, k') float32, descending, and rows (q, k') int64; equal scores by ascending row. `k'` is the
            smaller of `k` and the number of rows looked at.

        Raises:
            BrokenIndex: A vector holds what is no finite number.
            ValueError: A query does.
        """
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite numbers")
        count = self.rows if ids is None else len(ids)
        k = min(k, count - (0 if without is None else len(without)))
        scores = np.empty((len(queries), k), np.float32)
        found = np.empty((len(queries), k), np.int64)
        turn = max(1, SCORE_ELEMENTS // max(count, 1))
        if k:
            for first in range(0, len(queries), turn):
                products = self._scores(queries[first : first + turn], count, ids)
                if without is not None and len(without):
                    products[:, without] = -np.inf
                for row, line in enumerate(products, first):
                    scores[row], found[row] = self._best(line, queries[row], k, ids)
        # Float16 rounds a vector of norm 1 to one slightly longer or shorter; a cosine stays within its range.
        np.clip(scores, -1.0, 1.0, out=scores)
        return scores, found

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of these rows, (n, dimension) float32."""
        self.checked.require_records(self.start, self.row_bytes, np.asarray(ids))
        return np.asarray(self.vectors[ids], dtype=np.float32)

    def products(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inner products (n,) float32 of a query with these rows, summed up in float64: they depend on the row and the
        query alone."""
        self.checked.require_records(self.start, self.row_bytes, rows)
        exact = np.empty(len(rows), np.float32)
        block = max(1, SCAN_ELEMENTS // self.dimension)
        for first in range(0, len(rows), block):
            exact[first : first + block] = (self.vectors[rows[first : first + block]].astype(np.float64) * query).sum(1)
        return exact

    def _scores(self, queries: np.ndarray, count: int, ids: np.ndarray | None) -> np.ndarray:
        """Inner products (q, count) float32, within `SCORE_NOISE`."""
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        scores = np.empty((len(asked), count), np.float32)
        block = max(1, SCAN_ELEMENTS // self.dimension)
        wide = np.empty((min(block, count), self.dimension), np.float32)
        for first in range(0, count, block):
            last = min(first + block, count)
            if ids is None:
                self.require(first, last)
            else:
                self.checked.require_records(self.start, self.row_bytes, ids[first:last])
            rows = self.vectors[first:last] if ids is None else self.vectors[ids[first:last]]
            if rows.dtype == np.float16:
                damaged = not finite_float16(rows)
                rows = widen_float16(rows, wide[: len(rows)])
            else:
                damaged = False
            np.matmul(asked, rows.T, out=scores[:, first:last])
            # One number that is not finite makes the sum so, and scores themselves are far too small to.
            if damaged or not np.isfinite(scores[:, first:last].sum()):
                raise BrokenIndex(f"{shown_path(self.path)}: damaged vectors; {WAY_OUT}")
        return scores

    def _best(
        self, scores: np.ndarray, query: np.ndarray, k: int, ids: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k largest scores of a query and their rows, those that come near the k-th summed up anew.

        The new sums, in float64, depend on the row and the query alone: equal vectors have equal scores, wherever they
        stand and whatever else is asked for.
        """
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores >= least - SCORE_NOISE)
        if ids is not None:
            rows = ids[rows]
        exact = self.products(query, rows)
        order = np.argsort(-exact, kind="stable")[:k]
        return exact[order], rows[order]


def _read_header(head: bytes, path: str | os.PathLike[str]) -> tuple[int, int, str]:
    """Rows, dimension and dtype, or BrokenIndex."""
    if len(head) >= HEAD.size:
        kind, dimension, rows, _, _, _, metric = HEAD.unpack_from(head)
        dtype = {b"IxFI": "float32", b"IxSQ": "float16"}.get(kind)
        if dtype and rows >= 0 and dimension > 0 and metric == INNER_PRODUCT:
            expected = file_header(rows, dimension, dtype)
            if head[HEAD.size : len(expected)] == expected[HEAD.size :]:
                return rows, dimension, dtype
    raise BrokenIndex(f"{shown_path(path)}: no flat inner-product index; {WAY_OUT}")


def _write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of `content`: the system may take it in pieces."""
    view = memoryview(content)
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
