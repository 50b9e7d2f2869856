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
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.errors import BrokenIndex, Misuse
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.store.block_sums import WAY_OUT, BlockSums, CheckedBytes
from bt_cli.store.index_choice import Choice, list_choice
from bt_cli.store.list_file import can_write, write_lists
from bt_cli.store.manifest import Piece
from bt_cli.store.vector_file import VectorFile, VectorFileWriter

LOG = logging.getLogger("bt_cli")

WANTED_RECALL = 0.97
SAMPLE_QUERIES = 400
SAMPLE_ROWS = 1 << 16
"""Rows among which sample queries have their exact neighbours: all of a million would take four times as long as
building the lists."""
NEIGHBOURS = 10
RESCORED = 1024
"""Candidates of a coded index that are ranked by the vectors themselves, at least: the same for every k up to a
quarter of it, so that a short answer begins a long one."""
TRAINING_ROWS = 40
"""Training vectors a list: FAISS asks for at least 39; more take longer and change little."""
MOST_TRAINING_BYTES = 1 << 30
ROWS_AT_A_TIME = 1 << 15
GRAPH_EFFORT = 1024
"""Nodes that a graph visits at most when tuned; more would be no faster than lists."""
CONSTRUCTION_EFFORT = 80
TRIAL_SECONDS = 60
TRIAL_CODES = 16
"""Lists, and codes of a quantizer, of the small index that a factory string is tried out with."""
LARGEST_NUMBER = 1 << 24
"""Lists, links or codes in a factory string; more would take gigabytes before the first vector."""
LISTS_IN_MEMORY = 256 << 20
"""Bytes of lists up to which an index is built in memory, which is a little faster."""
SEED = 20220617
SCORE_STEP = np.float32(2.0**-20)
"""Scores are rounded to this step (about 1e-6): below it, sums depend on how FAISS goes through its blocks."""


def build_approximate(flat: Path, path: Path, choice: Choice) -> tuple[Choice, dict[str, Any]]:
    """Build the index that `choice` names from a flat vector file and write it to `path`, synced.

    Returns:
        The choice that was carried out (another one where the first did not reach the recall, exact search where
        the vectors are too few for it: then nothing is written) and what the search of it was tuned to: `nprobe` or
        `efSearch`, `recall`, `sample`; where its lists lie in the file (`lists_begin`, `lists_end`).

    Raises:
        Misuse: FAISS does not know the factory string.
    """
    vectors = VectorFile(flat)
    if not vectors.rows:
        return Choice(None, f"there are no vectors yet for {choice.factory}"), {}
    queries, neighbours = _sample(vectors)
    try:
        index = _built(vectors, choice, path)
    except _TooFew:
        return Choice(None, f"{vectors.rows:,} vectors are too few to train {choice.factory}"), {}
    search = _tuned(index, queries, neighbours)
    if choice.fallback and search["recall"] < WANTED_RECALL:
        LOG.info("%s finds only %.3f of the neighbours: lists instead", choice.factory, search["recall"])
        choice = list_choice(vectors.rows, vectors.dimension, str(vectors.vectors.dtype))
        index = _built(vectors, choice, path)
        search = _tuned(index, queries, neighbours)
    faiss = _faiss()
    extent = list_extent(faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY))
    if extent is not None and len(extent[0]):
        search |= {"lists_begin": int(extent[0].min()), "lists_end": int((extent[0] + extent[1]).max())}
    return choice, search


def check_factory(factory: str, dimension: int) -> None:
    """Refuse a factory string before any work is done for it: FAISS builds, writes and searches a small one, in a
    process of its own, which it ends with some strings (`HNSW1`).

    Raises:
        Misuse: FAISS knows no such index, or can't do all of that with it.
    """
    for number in re.findall(r"\d+", factory):
        if not 0 < int(number[:20]) <= LARGEST_NUMBER:
            raise Misuse(f"--factory {factory[:100]}: {number[:20]} is no number of lists, links or codes")
    code = f"import sys; sys.path[:] = {sys.path!r}\nfrom {__name__} import try_out\ntry_out({factory!r}, {dimension})"
    try:
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRIAL_SECONDS)
        failed, known = ran.returncode != 0, _Unknown.__name__ not in ran.stderr
    except subprocess.TimeoutExpired:  # NSG1 never ends
        failed, known = True, True
    if failed:
        what = (
            "knows it but can't build and search it here"
            if known
            else f"knows no such index for {dimension} dimensions"
        )
        raise Misuse(f"--factory {factory[:100]}: FAISS {what}; leave --factory out for the automatic choice")


def try_out(factory: str, dimension: int) -> None:
    """Build, write, open and search a small index of random vectors; raises, or ends the process, where FAISS can't."""
    _empty(factory, dimension)
    with tempfile.TemporaryDirectory(prefix="bt-") as folder:
        _try_out(_reduced(factory, dimension), dimension, Path(folder))


class ApproximateIndex:
    """A FAISS index, mapped. Searches take what it was tuned to; what it finds is ranked by the flat vectors, where
    they are at hand, so that a score is the same however an index was built.

    Args:
        path: The FAISS file.
        entry: What the manifest says of it.
        flat: The same vectors, flat; None: the first format had none.
        sums: Of the file.
    """

    def __init__(self, path: Path, entry: Piece, flat: VectorFile | None = None, sums: BlockSums | None = None) -> None:
        faiss = _faiss()

        self.path = path
        with open_plain(path) as file:
            self.checked = CheckedBytes(path, file, sums)
        # FAISS believes what it reads: all but the lists is checked before, each list when a query probes it.
        first, last = (int(entry.search.get(name, 0)) for name in ("lists_begin", "lists_end"))
        self.checked.require(0, first)
        self.checked.require(last, len(self.checked.content))
        flags = getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP)
        if "IVF" in entry.kind:
            flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        try:
            self.index = faiss.read_index(os.fspath(path), flags)
        except RuntimeError as error:
            raise BrokenIndex(f"{shown_path(path)}: FAISS can't read it; {WAY_OUT}") from error
        self.rows: int = self.index.ntotal
        self.dimension: int = self.index.d
        self.tuning = entry.search
        self.flat = flat
        self.is_exact = re.search(r"(?:^|,)(?:SQfp16|Flat)$", entry.kind) is not None
        """Whether its own scores are those of the vectors: then no further candidates are needed."""
        if not last:
            self.checked.require(0, len(self.checked.content))

    def search(
        self, queries: np.ndarray, k: int, ids: np.ndarray | None = None, without: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `VectorFile.search`, but that vectors beyond those looked at are missed: id -1, score minus infinity."""
        if without is not None and len(without) and ids is None:
            ids = np.delete(np.arange(self.rows), without)
            all_lists = False
        else:
            all_lists = ids is not None
        count = self.rows if ids is None else len(ids)
        k = min(k, count)
        if not k:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        self._require_lists(queries, all_lists)
        fetched = min(count, k + NEIGHBOURS if self.is_exact or self.flat is None else max(RESCORED, 4 * k))
        while True:
            scores, found = _searched(self.index, queries, fetched, self.tuning, ids, all_lists=all_lists)
            # Equal scores at the end: those of smaller id may not be among them yet.
            cut = (scores[:, -1] == scores[:, k - 1]) & (found[:, -1] >= 0)
            if fetched == count or not cut.any():
                break
            fetched = min(count, 2 * fetched)
        if self.flat is not None:
            for query, line, row in zip(queries, found, scores, strict=True):
                row[line >= 0] = self.flat.products(query, line[line >= 0])
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

    def _require_lists(self, queries: np.ndarray, all_lists: bool) -> None:
        """Check the lists that these queries will probe."""
        extent = list_extent(self.index)
        if extent is None or not self.tuning.get("lists_end"):
            return
        offsets, sizes = extent
        probed = np.arange(len(offsets))
        if not all_lists:
            lists = _lists_of(self.index)
            rotated = self.index.chain.at(0).apply(queries) if hasattr(self.index, "chain") else queries
            probes = min(lists.nlist, int(self.tuning.get("nprobe", 1)))
            probed = np.unique(lists.quantizer.search(rotated, probes)[1])
        for number in probed[probed >= 0].tolist():
            self.checked.require(int(offsets[number]), int(offsets[number] + sizes[number]))


def list_extent(index: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Where each list of a mapped IVF index lies in its file: offsets and bytes, each (lists,); None for others."""
    faiss = _faiss()
    lists = _lists_of(index)
    mapped: Any = faiss.downcast_InvertedLists(lists.invlists) if lists is not None else None
    if type(mapped).__name__ != "OnDiskInvertedLists":
        return None
    entries = [mapped.lists.at(number) for number in range(mapped.nlist)]
    size = mapped.code_size + 8  # each code with its row's number
    return np.array([e.offset for e in entries], np.int64), np.array([e.capacity * size for e in entries], np.int64)


def _searched(
    index: Any,
    queries: np.ndarray,
    k: int,
    tuning: dict[str, Any],
    ids: np.ndarray | None = None,
    *,
    all_lists: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded scores and rows (q, k) as FAISS finds them; among `ids` alone, in all lists or in those probed anyway."""
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
    index = ApproximateIndex(folder / "index", Piece(rows, "", "", "", kind=factory, search=search))
    index.search(vectors[:2], NEIGHBOURS)
    index.search(vectors[:2], NEIGHBOURS, np.arange(0, rows, 2))


class _Unknown(Misuse):
    """A factory string that FAISS does not know."""


class _TooFew(Exception):
    """FAISS can't train an index on so few vectors."""


def _empty(factory: str, dimension: int) -> Any:
    """The index that a factory string names, without vectors. Raises Misuse."""
    faiss = _faiss()
    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise _Unknown(f"--factory {factory}: FAISS knows no such index for {dimension} dimensions") from error


def _built(vectors: VectorFile, choice: Choice, path: Path) -> Any:
    """The index, trained on a sample, holding all vectors and written to `path`; large lists never lie in memory."""
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
    if lists is not None and vectors.rows * lists.code_size > LISTS_IN_MEMORY and can_write(index):
        write_lists(index, vectors, path)
        return faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    for first in range(0, vectors.rows, ROWS_AT_A_TIME):
        index.add(np.asarray(vectors.vectors[first : first + ROWS_AT_A_TIME], dtype=np.float32))
    _write(index, path)
    return index


def _train(index: Any, vectors: VectorFile, choice: Choice, lists: int) -> None:
    count = min(vectors.rows, max(lists * TRAINING_ROWS, 1 << 14), MOST_TRAINING_BYTES // (4 * vectors.dimension))
    chosen = np.sort(np.random.default_rng(SEED).choice(vectors.rows, count, replace=False))
    try:
        index.train(vectors.rows_of(chosen))
    except RuntimeError as error:
        raise _TooFew from error


def _sample(vectors: VectorFile) -> tuple[np.ndarray, np.ndarray]:
    """Queries (q, d) float32 and their exact neighbours (q, 10) among at most `SAMPLE_ROWS` rows, evenly spread.

    The ten nearest of a sample of one row in sixteen are about the 160 nearest of all: what finds them finds the
    nearest ten the more surely.
    """
    generator = np.random.default_rng(SEED)
    count = min(SAMPLE_QUERIES, vectors.rows)
    own = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
    other = vectors.rows_of(np.sort(generator.choice(vectors.rows, count, replace=False)))
    between = own[::2] + generator.permutation(other)[: len(own[::2])]
    queries = np.concatenate([own[1::2], between])
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    if vectors.rows <= SAMPLE_ROWS:
        return queries, vectors.search(queries, NEIGHBOURS)[1]
    rows = np.linspace(0, vectors.rows - 1, SAMPLE_ROWS).astype(np.int64)
    products = queries @ vectors.rows_of(rows).T
    nearest = np.argpartition(-products, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return queries, rows[nearest]


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
    k = neighbours.shape[1] * max(1, 2 * index.ntotal // SAMPLE_ROWS if index.ntotal > SAMPLE_ROWS else 1)
    found = _searched(index, queries, k, tuning)[1]
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
