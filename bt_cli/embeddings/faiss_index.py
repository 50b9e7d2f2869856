"""What FAISS indexes are made of, and one search of any of them: lists, graphs, what turns vectors before either."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

GRAPH_EFFORT = 1024
"""Nodes that a graph visits at most when tuned; more would be no faster than lists."""
SCORE_STEP = np.float32(2.0**-20)
"""Scores are rounded to this step (about 1e-6): below it, sums depend on how FAISS goes through its blocks."""


def faiss_module() -> Any:
    """FAISS, imported when it is needed. Untyped: its stubs know nothing of keyword arguments."""
    import faiss

    return faiss


def lists_of(index: Any) -> Any:
    """The IVF index within an index, or None."""
    faiss = faiss_module()

    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def graph_of(index: Any) -> Any:
    faiss = faiss_module()

    return index if isinstance(index, faiss.IndexHNSW) else None


def searched(
    index: Any,
    queries: np.ndarray,
    k: int,
    tuning: dict[str, Any],
    ids: np.ndarray | None = None,
    *,
    all_lists: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded scores and rows (q, k) as FAISS finds them; among `ids` alone, in all lists or in those probed anyway."""
    faiss = faiss_module()

    selector = None
    if ids is not None:
        bits = np.zeros((index.ntotal + 7) // 8, np.uint8)
        np.bitwise_or.at(bits, ids >> 3, (1 << (ids & 7)).astype(np.uint8))
        selector = faiss.IDSelectorBitmap(bits)
    graph, lists = graph_of(index), lists_of(index)
    if graph is not None and (selector is not None or k > GRAPH_EFFORT // 2):
        # A graph leads past what a filter leaves out, and is no shortcut to a thousand answers: all its vectors, then.
        storage = faiss.downcast_index(graph.storage)
        scores, found = storage.search(queries, k) if selector is None else _filtered(storage, queries, k, selector)
    elif graph is not None:
        # The same effort for every k, so that a short list is the beginning of a long one.
        effort = max(tuning.get("efSearch", 0), GRAPH_EFFORT // 2)
        scores, found = index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=effort))
    elif lists is not None:
        probes = lists.nlist if selector is not None and all_lists else min(lists.nlist, tuning.get("nprobe", 1))
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        if lists is not index and isinstance(index, faiss.IndexPreTransform):
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        scores, found = index.search(queries, k, params=parameters)
    elif selector is not None:
        scores, found = _filtered(index, queries, k, selector)
    else:
        scores, found = index.search(queries, k)
    scores = np.where(found < 0, -np.inf, scores)
    scores = np.round(scores / SCORE_STEP) * SCORE_STEP
    return scores.astype(np.float32), found


def _filtered(index: Any, queries: np.ndarray, k: int, selector: Any) -> tuple[np.ndarray, np.ndarray]:
    """A filtered search of any kind of index, one that knows no filters included."""
    faiss = faiss_module()
    try:
        return index.search(queries, k, params=faiss.SearchParameters(sel=selector))
    except RuntimeError:
        scores, found = index.search(queries, index.ntotal)
        kept = np.array([[row >= 0 and selector.is_member(int(row)) for row in line] for line in found])
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        found = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(found, order, 1), -1)
        return np.take_along_axis(scores, order, 1), found


def list_extent(index: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Where each list of a mapped IVF index lies in its file: offsets and bytes, each (lists,); None for others."""
    faiss = faiss_module()
    lists = lists_of(index)
    mapped: Any = faiss.downcast_InvertedLists(lists.invlists) if lists is not None else None
    if type(mapped).__name__ != "OnDiskInvertedLists":
        return None
    entries = [mapped.lists.at(number) for number in range(mapped.nlist)]
    size = mapped.code_size + 8  # each code with its row's number
    return np.array([e.offset for e in entries], np.int64), np.array([e.capacity * size for e in entries], np.int64)


def mapped(path: Path) -> Any:
    """An index as it lies on the disk; its lists are read when they are probed. Raises RuntimeError."""
    faiss = faiss_module()
    return faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)


def turned(index: Any, vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d) float32 as the lists of an index take them."""
    for number in range(index.chain.size() if hasattr(index, "chain") else 0):
        vectors = index.chain.at(number).apply(vectors)
    return vectors


def holds_vectors(kind: str) -> bool:
    """Whether an index of this factory string scores the vectors themselves, not codes of them."""
    return re.search(r"(?:^|,)(?:SQfp16|Flat)$", kind) is not None
