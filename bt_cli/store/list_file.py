"""Inverted lists that are written straight into FAISS's file: what is in memory is a block of vectors, not the lists.

The vectors are gone through twice. First each is given its list, so that every list's place in the file is known; then
each block is encoded, and its codes and row numbers are written where they belong. The file is byte for byte what
`faiss.write_index` writes of an index that held all lists in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.store.vector_file import VectorFile

BLOCK = 1 << 15
"""Vectors at a time."""
MARK = b"ilar"
FULL = b"full"
ID = np.dtype("<i8")


def can_write(index: Any) -> bool:
    """Whether the codes of this index with lists can be made a block at a time, each for itself."""
    import faiss

    lists = faiss.extract_index_ivf(index)
    if hasattr(index, "chain") and index.chain.size() != 1:
        return False
    kinds = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFRaBitQ, faiss.IndexIVFPQ)
    return type(faiss.downcast_index(lists)) in kinds


def write_lists(index: Any, vectors: VectorFile, path: Path) -> None:
    """Write the trained, empty IVF `index` to `path`, with all `vectors` in its lists, synced.

    Raises:
        OSError: The disk is full.
    """
    import faiss

    lists: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    numbers = _list_numbers(index, lists, vectors)
    sizes = np.bincount(numbers, minlength=lists.nlist).astype(np.uint64)
    begins = np.cumsum(np.concatenate([[0], sizes[:-1]])).astype(np.int64) * (lists.code_size + ID.itemsize)
    head = _head(index, lists, vectors.rows, sizes)
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
        _fill(content, index, lists, vectors, numbers, begins, sizes.astype(np.int64))
        if isinstance(content, np.memmap):
            content.flush()
        os.fsync(file.fileno())


def _block(index: Any, vectors: VectorFile, first: int) -> np.ndarray:
    """Vectors from `first` as the lists take them: turned, where the index turns them."""
    block = np.asarray(vectors.vectors[first : first + BLOCK], dtype=np.float32)
    return index.chain.at(0).apply(block) if hasattr(index, "chain") else block


def _list_numbers(index: Any, lists: Any, vectors: VectorFile) -> np.ndarray:
    """(n,) int32: the list of each vector."""
    numbers = np.empty(vectors.rows, np.int32)
    for first in range(0, vectors.rows, BLOCK):
        block = _block(index, vectors, first)
        numbers[first : first + len(block)] = lists.quantizer.search(block, 1)[1][:, 0]
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


def _fill(
    content: np.ndarray,
    index: Any,
    lists: Any,
    vectors: VectorFile,
    numbers: np.ndarray,
    begins: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """Write each vector's code and row number into its list, in the order of the rows."""
    import faiss

    filled = np.zeros(lists.nlist, np.int64)
    for first in range(0, vectors.rows, BLOCK):
        block = np.ascontiguousarray(_block(index, vectors, first))
        mine = numbers[first : first + len(block)].astype(np.int64)
        codes = np.empty((len(block), lists.code_size), np.uint8)
        lists.encode_vectors(len(block), faiss.swig_ptr(block), faiss.swig_ptr(mine), faiss.swig_ptr(codes))
        order = np.argsort(mine, kind="stable")
        for run in np.split(order, np.flatnonzero(np.diff(mine[order])) + 1):
            number = int(mine[run[0]])
            at = int(begins[number]) + int(filled[number]) * lists.code_size
            content[at : at + len(run) * lists.code_size] = codes[run].reshape(-1)
            ids = int(begins[number]) + int(sizes[number]) * lists.code_size + int(filled[number]) * ID.itemsize
            content[ids : ids + len(run) * ID.itemsize] = (first + run).astype(ID).view(np.uint8)
            filled[number] += len(run)
