"""FAISS indexes that look at a part of the vectors: built within a known memory, tuned by measuring, opened by mapping.

Tuning: how many lists a query probes (IVF) or how many nodes it visits (HNSW) is the smallest number, of powers of
two, with which sample queries find `WANTED_RECALL` of their ten exact neighbours. The sample is half stored
vectors, half sums of two of them, which lie between clusters as texts do. What was reached is kept in the manifest.
Where a graph does not reach it, lists are built instead.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.errors import BrokenIndex, Misuse
from bt_cli.files.shown_path import shown_path
from bt_cli.store.index_choice import Choice, list_choice
from bt_cli.store.manifest import VectorIndexEntry
from bt_cli.store.vector_file import VectorFile, VectorFileWriter

LOG = logging.getLogger("bt_cli")

WANTED_RECALL = 0.97
SAMPLE_QUERIES = 400
NEIGHBOURS = 10
TRAINING_ROWS = 40
"""Training vectors a list: FAISS asks for at least 39; more take longer and change little."""
MOST_TRAINING_BYTES = 1 << 30
ROWS_AT_A_TIME = 1 << 15
GRAPH_EFFORT = 1024
"""Nodes that a graph visits at most when tuned; more would be no faster than lists."""
CONSTRUCTION_EFFORT = 80
TRIAL_CODES = 16
"""Lists, and codes of a quantizer, of the small index that a factory string is tried out with."""
SEED = 20220617
SCORE_STEP = np.float32(2.0**-20)
"""Scores are rounded to this step (about 1e-6): below it, sums depend on how FAISS goes through its blocks."""


def build_approximate(flat: Path, path: Path, choice: Choice) -> tuple[Choice, dict[str, Any]]:
    """Build the index that `choice` names from a flat vector file and write it to `path`, synced.

    Returns:
        The choice that was carried out (another one where the first did not reach the recall, exact search where
        the vectors are too few for it: then nothing is written) and what the search of it was tuned to: `nprobe` or
        `efSearch`, `recall`, `sample`.

    Raises:
        Misuse: FAISS does not know the factory string.
    """
    vectors = VectorFile(flat)
    if not vectors.rows:
        return Choice(None, f"there are no vectors yet for {choice.factory}"), {}
    queries, neighbours = _sample(vectors)
    try:
        index = _built(vectors, choice)
    except _TooFew:
        return Choice(None, f"{vectors.rows:,} vectors are too few to train {choice.factory}"), {}
    search = _tuned(index, queries, neighbours)
    if choice.fallback and search["recall"] < WANTED_RECALL:
        LOG.info("%s finds only %.3f of the neighbours: lists instead", choice.factory, search["recall"])
        choice = list_choice(vectors.rows, vectors.dimension, str(vectors.vectors.dtype))
        index = _built(vectors, choice)
        search = _tuned(index, queries, neighbours)
    _write(index, path)
    return choice, search


def check_factory(factory: str, dimension: int) -> None:
    """Refuse a factory string before any work is done for it: FAISS builds, writes and searches a small one.

    Raises:
        Misuse: FAISS knows no such index, or can't do all of that with it.
    """
    _empty(factory, dimension)
    try:
        with tempfile.TemporaryDirectory(prefix="bt-") as folder:
            _try_out(_reduced(factory, dimension), dimension, Path(folder))
    except Exception as error:  # FAISS and its Python wrapper fail in many ways, each with its own type
        if isinstance(error, OSError) and error.errno is not None:
            return  # no room for temporary files says nothing of the factory
        raise Misuse(
            f"--factory {factory}: FAISS knows it but can't build and search it here; leave --factory out for the "
            "automatic choice"
        ) from error


class ApproximateIndex:
    """A FAISS index, mapped. Searches take what it was tuned to; searches among given ids are exact where FAISS can
    do that."""

    def __init__(self, path: Path, entry: VectorIndexEntry) -> None:
        faiss = _faiss()

        flags = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)
        if "IVF" in entry.kind:
            flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        if not path.exists():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        try:
            self.index = faiss.read_index(os.fspath(path), flags)
        except RuntimeError as error:
            raise BrokenIndex(f"{shown_path(path)}: FAISS can't read it; bt index --rebuild makes it anew") from error
        self.rows: int = self.index.ntotal
        self.dimension: int = self.index.d
        self.tuning = entry.search

    def search(self, queries: np.ndarray, k: int, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorFile.search`, but that vectors beyond those looked at are missed: id -1, score minus infinity."""
        count = self.rows if ids is None else len(ids)
        k = min(k, count)
        if not k:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        fetched = min(count, k + NEIGHBOURS)
        while True:
            scores, found = _searched(self.index, queries, fetched, self.tuning, ids)
            # Equal scores at the end: those of smaller id may not be among them yet.
            cut = (scores[:, -1] == scores[:, k - 1]) & (found[:, -1] >= 0)
            if fetched == count or not cut.any():
                break
            fetched = min(count, 2 * fetched)
        order = np.lexsort((np.where(found < 0, self.rows, found), -scores))[:, :k]
        scores, found = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        return np.where(found < 0, scores, np.clip(scores, -1.0, 1.0)), found

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of these rows, (n, dimension) float32, as exact as the index keeps them."""
        faiss = _faiss()

        lists = _lists_of(self.index)
        if lists is not None:
            lists.set_direct_map_type(faiss.DirectMap.Hashtable)
        return (
            np.stack([self.index.reconstruct(int(row)) for row in ids])
            if len(ids)
            else np.zeros((0, self.dimension), np.float32)
        )


def _searched(
    index: Any, queries: np.ndarray, k: int, tuning: dict[str, Any], ids: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded scores and rows (q, k) as FAISS finds them."""
    faiss = _faiss()

    selector = None
    if ids is not None:
        bits = np.zeros((index.ntotal + 7) // 8, np.uint8)
        np.bitwise_or.at(bits, ids >> 3, (1 << (ids & 7)).astype(np.uint8))
        selector = faiss.IDSelectorBitmap(bits)
    graph, lists = _graph_of(index), _lists_of(index)
    if graph is not None and (selector is not None or k > GRAPH_EFFORT // 2):
        # A graph leads past what a filter leaves out, and is no shortcut to a thousand answers: all its vectors, then.
        storage = faiss.downcast_index(graph.storage)
        scores, found = storage.search(queries, k) if selector is None else _filtered(storage, queries, k, selector)
    elif graph is not None:
        # The same effort for every k, so that a short list is the beginning of a long one.
        effort = max(tuning.get("efSearch", 0), GRAPH_EFFORT // 2)
        scores, found = index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=effort))
    elif lists is not None:
        probes = lists.nlist if selector is not None else min(lists.nlist, tuning.get("nprobe", 1))
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
    faiss = _faiss()
    try:
        return index.search(queries, k, params=faiss.SearchParameters(sel=selector))
    except RuntimeError:
        scores, found = index.search(queries, index.ntotal)
        kept = np.array([[row >= 0 and selector.is_member(int(row)) for row in line] for line in found])
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        found = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(found, order, 1), -1)
        return np.take_along_axis(scores, order, 1), found


def _faiss() -> Any:
    """FAISS, imported when it is needed. Untyped: its stubs know nothing of keyword arguments."""
    import faiss

    return faiss


def _lists_of(index: Any) -> Any:
    """The IVF index within an index, or None."""
    faiss = _faiss()

    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None


def _graph_of(index: Any) -> Any:
    faiss = _faiss()

    return index if isinstance(index, faiss.IndexHNSW) else None


def _reduced(factory: str, dimension: int) -> str:
    """A factory string with few lists, small codes and a random rotation for a learned one: its training takes few
    vectors and no time."""
    lists = re.sub(r"IVF\d+", f"IVF{TRIAL_CODES}", factory)
    codes = re.sub(r"(?<![A-Z])PQ(\d+)(?:x\d+)?(?:np)?(?=[,)]|$)", r"PQ\1x4np", lists)
    codes = re.sub(r"(?<![A-Z])(RQ|LSQ)(\d+)x\d+", r"\1\2x4", codes)
    return re.sub(r"OPQ\d+(?:_(\d+))?", lambda rotation: f"RR{rotation[1] or dimension}", codes)


def _try_out(factory: str, dimension: int, folder: Path) -> None:
    """Build, write, open and search an index of random vectors."""
    rows = TRAINING_ROWS * TRIAL_CODES
    vectors = np.random.default_rng(SEED).standard_normal((rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with VectorFileWriter(folder / "flat", rows, dimension, "float32") as writer:
        writer.write(np.arange(rows), vectors)
    choice, search = build_approximate(folder / "flat", folder / "index", Choice(factory, "tried out"))
    if choice.factory is None:
        return  # it wants more vectors than a trial has
    index = ApproximateIndex(folder / "index", VectorIndexEntry(rows, "", "", "", kind=factory, search=search))
    index.search(vectors[:2], NEIGHBOURS)
    index.search(vectors[:2], NEIGHBOURS, np.arange(0, rows, 2))


class _TooFew(Exception):
    """FAISS can't train an index on so few vectors."""


def _empty(factory: str, dimension: int) -> Any:
    """The index that a factory string names, without vectors. Raises Misuse."""
    faiss = _faiss()
    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise Misuse(f"--factory {factory}: FAISS knows no such index for {dimension} dimensions") from error


def _built(vectors: VectorFile, choice: Choice) -> Any:
    """The index, trained on a sample and holding all vectors."""
    faiss = _faiss()

    assert choice.factory is not None
    index = _empty(choice.factory, vectors.dimension)
    lists, graph = _lists_of(index), _graph_of(index)
    if graph is not None:
        graph.hnsw.efConstruction = CONSTRUCTION_EFFORT
    lists = faiss.downcast_index(lists) if lists is not None else None
    if isinstance(lists, faiss.IndexIVFScalarQuantizer):
        # Differences from a list's centre, once rounded, would not be the stored vectors again.
        lists.by_residual = lists.sq.qtype != faiss.ScalarQuantizer.QT_fp16
    if not index.is_trained:
        _train(index, vectors, choice, lists.nlist if lists is not None else 256)
    for first in range(0, vectors.rows, ROWS_AT_A_TIME):
        index.add(np.asarray(vectors.vectors[first : first + ROWS_AT_A_TIME], dtype=np.float32))
    return index


def _train(index: Any, vectors: VectorFile, choice: Choice, lists: int) -> None:
    count = min(vectors.rows, max(lists * TRAINING_ROWS, 1 << 14), MOST_TRAINING_BYTES // (4 * vectors.dimension))
    chosen = np.sort(np.random.default_rng(SEED).choice(vectors.rows, count, replace=False))
    try:
        index.train(vectors.rows_of(chosen))
    except RuntimeError as error:
        raise _TooFew from error


def _sample(vectors: VectorFile) -> tuple[np.ndarray, np.ndarray]:
    """Queries (q, d) float32 and their exact neighbours (q, 10)."""
    generator = np.random.default_rng(SEED)
    count = min(SAMPLE_QUERIES, vectors.rows)
    own = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
    other = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
    between = own[::2] + generator.permutation(other)[: len(own[::2])]
    queries = np.concatenate([own[1::2], between])
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    return queries, vectors.search(queries, NEIGHBOURS)[1]


def _tuned(index: Any, queries: np.ndarray, neighbours: np.ndarray) -> dict[str, Any]:
    """The least effort that reaches the recall; the most that there is where none does."""
    lists, graph = _lists_of(index), _graph_of(index)
    if lists is not None:
        name, effort, most = "nprobe", min(8, lists.nlist), lists.nlist
    elif graph is not None:
        name, effort, most = "efSearch", GRAPH_EFFORT // 2, GRAPH_EFFORT
    else:
        return {"recall": _recall(index, queries, neighbours, {}), "sample": len(queries)}
    while True:
        recall = _recall(index, queries, neighbours, {name: effort})
        if recall >= WANTED_RECALL or effort == most:
            return {name: effort, "recall": round(recall, 4), "sample": len(queries)}
        effort = min(2 * effort, most)


def _recall(index: Any, queries: np.ndarray, neighbours: np.ndarray, tuning: dict[str, Any]) -> float:
    """The share of the exact neighbours that are found; the worse half of the sample counts."""
    found = _searched(index, queries, neighbours.shape[1], tuning)[1]
    hits = np.array([len(np.intersect1d(mine, theirs)) for mine, theirs in zip(found, neighbours, strict=True)])
    own = len(queries) // 2
    return float(min(hits[:own].mean(), hits[own:].mean()) / neighbours.shape[1]) if own else 1.0


def _write(index: Any, path: Path) -> None:
    faiss = _faiss()

    try:
        faiss.write_index(index, os.fspath(path))
    except RuntimeError as error:
        raise OSError(None, f"FAISS could not write {path.name}: is the disk full?") from error
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
