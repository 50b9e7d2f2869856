"""Inverted lists that are written straight into FAISS's file: what is in memory is a block of vectors, not the lists.

The vectors are gone through twice. First each is given its list, so that every list's place in the file is known; then
each block is encoded, and its codes and row numbers are written where they belong. The file is byte for byte what
`faiss.write_index` writes of an index that held all lists in memory.

Pieces of an index share a trained quantizer while it fits: a row that lies in a list already keeps list and code, so
that merging pieces copies bytes, and only what is in no list yet is compared with the middles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.embeddings.faiss_index import list_extent, lists_of, mapped, turned
from bt_cli.embeddings.vector_file import VectorFile
from bt_cli.embeddings.widening import as_float32
from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import WAY_OUT, BlockSums, CheckedBytes
from bt_cli.files.shown_path import shown_path
from bt_cli.store.manifest import GENERATED, Piece

BLOCK = 1 << 15
"""Vectors at a time."""
MARK = b"ilar"
FULL = b"full"
ID = np.dtype("<i8")
RETRAINED_AT = 4
"""Times the rows that lists were trained on: as many vectors more lie too unevenly in them, and more lists pay."""


@dataclass(frozen=True)
class ListSource:
    """The lists of a piece that stands, to be taken over by a new one.

    Attributes:
        path: The FAISS file.
        entry: What the manifest says of the piece.
        sums: Of the file.
        rows: (entry.rows,) int64: the row in the new piece of each of its rows, or -1.
    """

    path: Path
    entry: Piece
    sums: BlockSums | None
    rows: np.ndarray

    @property
    def trained(self) -> int:
        """Rows that the lists were trained on."""
        return int(self.entry.search.get("trained", self.entry.rows))

    @property
    def quantizer(self) -> int:
        """Number of the file that the lists were trained for: of the same number are the same middles and codes."""
        return int(self.entry.search.get("quantizer", list_file_number(self.path.name)))

    def proved(self) -> CheckedBytes:
        """The file, all of it compared with its sums. Raises BrokenIndex."""
        try:
            with open(self.path, "rb") as file:
                checked = CheckedBytes(self.path, file, self.sums)
        except OSError as error:
            raise BrokenIndex(f"{shown_path(self.path)}: {error.strerror or error}; {WAY_OUT}") from error
        checked.require(0, len(checked.content))
        return checked

    def emptied(self) -> Any:
        """The index without its vectors: trained, to be filled. Raises BrokenIndex."""
        import faiss

        self.proved()
        try:
            index = mapped(self.path)
        except RuntimeError as error:
            raise BrokenIndex(f"{shown_path(self.path)}: FAISS can't read it; {WAY_OUT}") from error
        lists: Any = faiss.downcast_index(lists_of(index))
        none: Any = faiss.ArrayInvertedLists(lists.nlist, lists.code_size)
        lists.replace_invlists(none, True)
        none.this.disown()
        lists.ntotal = index.ntotal = 0
        return index

    def lists(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(its number, codes (m, code size) uint8, rows (m,) int64 in the new piece) of each list, rows that are not
        of the new piece left out. Raises BrokenIndex."""
        content = self.proved().content
        index = mapped(self.path)
        extent, size = list_extent(index), int(lists_of(index).code_size)
        assert extent is not None
        for number, (begin, length) in enumerate(zip(*map(np.ndarray.tolist, extent), strict=True)):
            count = length // (size + ID.itemsize)
            codes = content[begin : begin + count * size].reshape(count, size)
            ids = content[begin + count * size : begin + length].view(ID)
            rows = self.rows[ids]
            kept = np.flatnonzero(rows >= 0)
            yield number, codes[kept], rows[kept]


def usable(sources: Sequence[ListSource], factory: str, rows: int) -> list[ListSource]:
    """Those of the sources whose lists a piece of so many rows can go on with: of one quantizer, the one with the most
    rows, where its kind is the wanted one whatever the number of lists, and it was trained on enough rows."""
    fits = [
        source
        for source in sources
        if _codes(source.entry.kind) == _codes(factory) and RETRAINED_AT * source.trained >= rows
    ]
    largest = max(fits, key=lambda source: source.entry.rows, default=None)
    if largest is None or _codes(factory) is None:
        return []
    others = [source for source in fits if source is not largest and source.quantizer == largest.quantizer]
    return [largest, *others]


def list_file_number(name: str) -> int:
    """The number in the name of a file of lists, 0 where it has none."""
    match = GENERATED.fullmatch(name)
    return int(match[match.lastindex or 0]) if match else 0


def _codes(kind: str) -> str | None:
    """What a factory string says of all but the number of lists; None where it has no lists."""
    match = re.fullmatch(r"((?:\w+,)?IVF)\d+,(\w+)", kind)
    return f"{match[1]},{match[2]}" if match else None


def can_write(index: Any) -> bool:
    """Whether the codes of this index with lists can be made a block at a time, each for itself."""
    import faiss

    lists = faiss.extract_index_ivf(index)
    if hasattr(index, "chain") and index.chain.size() != 1:
        return False
    kinds = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFRaBitQ, faiss.IndexIVFPQ)
    return type(faiss.downcast_index(lists)) in kinds


def write_lists(index: Any, vectors: VectorFile, path: Path, sources: Sequence[ListSource] = ()) -> None:
    """Write the trained, empty IVF `index` to `path`, with all `vectors` in its lists, synced.

    Args:
        index: As FAISS has it.
        vectors: All of them.
        path: Of the new file.
        sources: Lists of the same quantizer that have some of the rows already.

    Raises:
        OSError: The disk is full.
        BrokenIndex: A source is damaged.
    """
    import faiss

    lists: Any = faiss.downcast_index(lists_of(index))
    numbers = _list_numbers(index, lists, vectors, sources)
    sizes = np.bincount(numbers, minlength=lists.nlist).astype(np.int64)
    begins = np.cumsum(np.concatenate([[0], sizes[:-1]]) * (lists.code_size + ID.itemsize))
    head = _head(index, lists, vectors.rows, sizes.astype(np.uint64))
    with open(path, "w+b") as file:
        file.write(head)
        file.flush()
        size = len(head) + vectors.rows * (lists.code_size + ID.itemsize)
        # A mapped page that finds no room on the disk would end the process: the room is taken first.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            os.ftruncate(file.fileno(), size)
        content = np.memmap(file, np.uint8, "r+", offset=len(head)) if vectors.rows else np.empty(0, np.uint8)
        _Lists(content, lists, numbers, begins, sizes).fill(index, vectors, sources)
        if isinstance(content, np.memmap):
            content.flush()
        os.fsync(file.fileno())


def _block(index: Any, vectors: VectorFile, rows: np.ndarray) -> np.ndarray:
    """Vectors as the lists take them: turned, where the index turns them."""
    whole = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
    block = vectors.vectors[rows[0] : rows[-1] + 1] if whole else vectors.vectors[rows]
    return np.ascontiguousarray(turned(index, as_float32(block)))


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), BLOCK):
        yield rows[first : first + BLOCK]


def _list_numbers(index: Any, lists: Any, vectors: VectorFile, sources: Sequence[ListSource]) -> np.ndarray:
    """(n,) int32: the list of each vector."""
    numbers = np.full(vectors.rows, -1, np.int32)
    for source in sources:
        for number, _, rows in source.lists():
            numbers[rows] = number
    for rows in _blocks(np.flatnonzero(numbers < 0)):
        numbers[rows] = lists.quantizer.search(_block(index, vectors, rows), 1)[1][:, 0]
    return numbers


def _head(index: Any, lists: Any, rows: int, sizes: np.ndarray) -> bytes:
    """All of the file before the first list."""
    import faiss

    lists.ntotal = index.ntotal = rows
    writer = faiss.VectorIOWriter()
    faiss.write_index(index, writer)
    lists.ntotal = index.ntotal = 0
    empty = faiss.vector_to_array(writer.data).tobytes()
    before = empty[: empty.rindex(MARK)]
    counts = np.array([lists.nlist, lists.code_size], "<u8").tobytes()
    return before + MARK + counts + FULL + np.array([len(sizes)], "<u8").tobytes() + sizes.astype("<u8").tobytes()


class _Lists:
    """Lists in the making, each in its place: codes of all its rows in their order, then the rows' numbers.

    Args:
        content: Bytes of the file from the first list on.
        lists: The IVF index.
        numbers: (n,) the list of each row.
        begins, sizes: (lists,) int64: where each begins in `content`, and its rows.
    """

    def __init__(
        self, content: np.ndarray, lists: Any, numbers: np.ndarray, begins: np.ndarray, sizes: np.ndarray
    ) -> None:
        self.content = content
        self.lists = lists
        self.numbers = numbers
        self.begins = begins
        self.sizes = sizes
        self.order = np.argsort(numbers, kind="stable")
        self.first = np.cumsum(sizes) - sizes
        self.place = np.empty(len(numbers), np.int32)
        """(n,) of each row in its list."""
        self.place[self.order] = np.arange(len(numbers)) - np.repeat(self.first, sizes)

    def fill(self, index: Any, vectors: VectorFile, sources: Sequence[ListSource]) -> None:
        """Write all codes, those of the sources as they are, and all numbers of rows."""
        wanted = np.ones(len(self.numbers), bool)
        for source in sources:
            for number, codes, rows in source.lists():
                self._codes_of(number)[self.place[rows]] = codes
                wanted[rows] = False
        for rows in _blocks(np.flatnonzero(wanted)):
            self._encode(_block(index, vectors, rows), rows)
        for begin, size, first in zip(self.begins, self.sizes, self.first, strict=True):
            behind = int(begin) + int(size) * self.lists.code_size
            ids = self.order[first : first + size].astype(ID)
            self.content[behind : behind + ids.nbytes] = ids.view(np.uint8)

    def _codes_of(self, number: int) -> np.ndarray:
        """The codes of a list, (size, code size) uint8, to be written."""
        begin, size = int(self.begins[number]), int(self.sizes[number])
        return self.content[begin : begin + size * self.lists.code_size].reshape(size, self.lists.code_size)

    def _encode(self, block: np.ndarray, rows: np.ndarray) -> None:
        import faiss

        mine = self.numbers[rows].astype(np.int64)
        codes = np.empty((len(block), self.lists.code_size), np.uint8)
        self.lists.encode_vectors(len(block), faiss.swig_ptr(block), faiss.swig_ptr(mine), faiss.swig_ptr(codes))
        order = np.argsort(mine, kind="stable")
        for run in np.split(order, np.flatnonzero(np.diff(mine[order])) + 1):
            self._codes_of(int(mine[run[0]]))[self.place[rows[run]]] = codes[run]
