"""FAISS indexes that look at a part of the vectors: built within a known memory, tuned by measuring (`tuning`), opened
by mapping. Where a graph does not reach the recall, lists are built instead."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bt_cli.embeddings import tuning
from bt_cli.embeddings.faiss_index import (
    faiss_module,
    graph_of,
    holds_vectors,
    list_extent,
    lists_of,
    mapped,
    searched,
    turned,
)
from bt_cli.embeddings.index_choice import Choice, list_choice
from bt_cli.embeddings.tuning import NEIGHBOURS, RESCORED, SEED, Sample, tuned
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.embeddings.widening import as_float32
from bt_cli.errors import BrokenIndex, Misuse
from bt_cli.files.block_sums import WAY_OUT, BlockSums, CheckedBytes
from bt_cli.files.plain_file import open_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.files.temporary_folder import temporary_folder
from bt_cli.store.list_file import ListSource, can_write, list_file_number, usable, write_lists
from bt_cli.store.manifest import Piece

LOG = logging.getLogger("bt_cli")

TRAINING_ROWS = 40
"""Training vectors a list: FAISS asks for at least 39; more take longer and change little."""
MOST_TRAINING_BYTES = 1 << 30
ROWS_AT_A_TIME = 1 << 15
CONSTRUCTION_EFFORT = 80
TRIAL_SECONDS = 60
TRIAL_CODES = 16
"""Lists, and codes of a quantizer, of the small index that a factory string is tried out with."""
LARGEST_NUMBER = 1 << 24
"""Lists, links or codes in a factory string; more would take gigabytes before the first vector."""
RANKED_AT_A_TIME = 64
"""Candidates whose vectors are read together."""
LISTS_IN_MEMORY = 256 << 20
"""Bytes of lists up to which an index is built in memory, which is a little faster."""


def build_approximate(
    flat: Path, path: Path, choice: Choice, before: Sequence[ListSource] = ()
) -> tuple[Choice, dict[str, Any]]:
    """Build the index that `choice` names from a flat vector file and write it to `path`, synced.

    Args:
        flat: The vector file.
        path: Of the new index.
        choice: See `choose_index`.
        before: Lists of the pieces that stand. Where they are of the wanted kind, and trained on no less than a quarter
            of the rows, nothing is trained, and rows that one of them has take their list and code over.

    Returns:
        The choice that was carried out (another one where the first did not reach the recall, exact search where
        the vectors are too few for it: then nothing is written) and what the search of it was tuned to: `nprobe` or
        `efSearch`, `recall`, `sample`; where its lists lie in the file (`lists_begin`, `lists_end`); on how many rows
        its lists were `trained`, and `quantizer`, the number of the file that these were trained for.

    Raises:
        Misuse: FAISS does not know the factory string.
    """
    vectors = VectorFile(flat)
    if not vectors.rows:
        return Choice(None, f"there are no vectors yet for {choice.factory}"), {}
    sample = Sample.of(vectors)
    sources = usable(before, choice.factory or "", vectors.rows)
    try:
        index = _grown(vectors, sources, path) if sources else None
    except BrokenIndex as error:
        LOG.info("%s: lists are trained anew", error)
        index, sources = None, []
    if index is not None:
        choice = replace(choice, factory=sources[0].entry.kind)
        trained = {"trained": sources[0].trained, "quantizer": sources[0].quantizer}
    else:
        try:
            index = _built(vectors, choice, path)
        except _TooFew:
            return Choice(None, f"{vectors.rows:,} vectors are too few to train {choice.factory}"), {}
        trained = {"trained": vectors.rows, "quantizer": list_file_number(path.name)}
    search = tuned(index, choice.factory or "", sample, vectors)
    if choice.fallback and search["recall"] < tuning.WANTED_RECALL:
        LOG.info("%s finds only %.3f of the neighbours: lists instead", choice.factory, search["recall"])
        choice = list_choice(vectors.rows, vectors.dimension, str(vectors.vectors.dtype))
        index = _built(vectors, choice, path)
        search = tuned(index, choice.factory or "", sample, vectors)
    if lists_of(index) is not None:
        search |= trained
    extent = list_extent(mapped(path))
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
    with temporary_folder() as folder:
        _try_out(_reduced(factory, dimension), dimension, folder)


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
        faiss = faiss_module()

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
        self.is_exact = holds_vectors(entry.kind)
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
            scores, found = searched(self.index, queries, fetched, self.tuning, ids, all_lists=all_lists)
            # Equal scores at the end: those of smaller id may not be among them yet.
            cut = (scores[:, -1] == scores[:, k - 1]) & (found[:, -1] >= 0)
            if fetched == count or not cut.any():
                break
            fetched = min(count, 2 * fetched)
        if self.flat is not None:
            for query, line, row in zip(queries, found, scores, strict=True):
                rank_by_vectors(self.flat, query, line, row, k)
        order = np.lexsort((np.where(found < 0, self.rows, found), -scores))[:, :k]
        scores, found = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        return np.where(found < 0, scores, np.clip(scores, -1.0, 1.0)), found

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of these rows, (n, dimension) float32, as exact as the index keeps them."""
        faiss = faiss_module()

        lists = lists_of(self.index)
        if lists is not None:
            lists.set_direct_map_type(faiss.DirectMap.Hashtable)
        return (
            np.stack([self.index.reconstruct(int(row)) for row in ids])
            if len(ids)
            else np.zeros((0, self.dimension), np.float32)
        )

    def _require_lists(self, queries: np.ndarray, all_lists: bool) -> None:
        """Check the lists that these queries will probe, each once."""
        if self._unproved is None or self._extent is None:
            return
        probed = np.arange(len(self._unproved))
        if not all_lists:
            lists = lists_of(self.index)
            probes = min(lists.nlist, int(self.tuning.get("nprobe", 1)))
            probed = np.unique(lists.quantizer.search(turned(self.index, queries), probes)[1])
        probed = probed[probed >= 0]
        offsets, sizes = self._extent
        for number in probed[self._unproved[probed]].tolist():
            self.checked.require(int(offsets[number]), int(offsets[number] + sizes[number]))
            self._unproved[number] = False

    @cached_property
    def _extent(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where each list lies, as `list_extent` says."""
        return list_extent(self.index)

    @cached_property
    def _unproved(self) -> np.ndarray | None:
        """(lists,) bool: those that no query has probed yet; None where nothing is left to be proved."""
        if not self.checked.is_summed or not self.tuning.get("lists_end") or self._extent is None:
            return None
        return np.ones(len(self._extent[0]), bool)


def rank_by_vectors(flat: VectorFile, query: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int) -> None:
    """Put the vectors' own scores in the place of those of codes, from the best on, until no other reaches the best k.

    How far a code's score lies from its vector's is seen on those ranked so far: one whose score lies by twice the
    largest such distance below the k-th best is not read. On a disk each of them would be a block to read and to prove.

    Args:
        flat: The vectors.
        query: (d,) float32.
        rows: (m,) int64, the best first by the scores of the codes; -1 behind the last.
        scores: (m,) float32, changed in place; minus infinity where the vector need not be read.
        k: Answers wanted.
    """
    known = int((rows >= 0).sum())
    reach, ranked = np.float32(0), 0
    while ranked < known:
        best = np.partition(scores[:ranked], ranked - k)[ranked - k] if ranked >= k else -np.inf
        first, last = ranked, min(known, max(k, ranked + RANKED_AT_A_TIME))
        last = first + int((scores[first:last] + reach >= best).sum())
        if last == first:
            break
        exact = flat.products(query, rows[first:last])
        reach = max(reach, 2 * np.abs(exact - scores[first:last]).max())
        scores[first:last], ranked = exact, last
    scores[ranked:known] = -np.inf


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
    faiss = faiss_module()
    try:
        return faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise _Unknown(f"--factory {factory}: FAISS knows no such index for {dimension} dimensions") from error


def _built(vectors: VectorFile, choice: Choice, path: Path) -> Any:
    """The index, trained on a sample, holding all vectors and written to `path`; large lists never lie in memory."""
    faiss = faiss_module()

    assert choice.factory is not None
    index = _empty(choice.factory, vectors.dimension)
    lists, graph = lists_of(index), graph_of(index)
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
        return mapped(path)
    for first in range(0, vectors.rows, ROWS_AT_A_TIME):
        index.add(as_float32(vectors.vectors[first : first + ROWS_AT_A_TIME]))
    _write(index, path)
    return index


def _grown(vectors: VectorFile, sources: Sequence[ListSource], path: Path) -> Any:
    """The index with the quantizer, lists and codes of those that stand; None where it is of a kind that packs codes
    together. Raises BrokenIndex."""
    index = sources[0].emptied()
    if not can_write(index):
        return None
    write_lists(index, vectors, path, sources)
    return mapped(path)


def _train(index: Any, vectors: VectorFile, choice: Choice, lists: int) -> None:
    count = min(vectors.rows, max(lists * TRAINING_ROWS, 1 << 14), MOST_TRAINING_BYTES // (4 * vectors.dimension))
    chosen = np.sort(np.random.default_rng(SEED).choice(vectors.rows, count, replace=False))
    try:
        index.train(vectors.rows_of(chosen))
    except RuntimeError as error:
        raise _TooFew from error


def _write(index: Any, path: Path) -> None:
    faiss = faiss_module()

    try:
        faiss.write_index(index, os.fspath(path))
    except RuntimeError as error:
        raise OSError(None, f"FAISS could not write {path.name}: is the disk full?") from error
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
