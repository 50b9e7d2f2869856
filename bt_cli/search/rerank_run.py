"""Reranking a whole TREC run: the documents of every query, in one pass over the images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.datasets.trec import RunEntry, decode_id
from bt_cli.errors import Misuse, NotFound, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.search.candidates import Candidate, Hit
from bt_cli.search.rerank import PairReader, Progress, order_by_match
from bt_cli.sources.web_address import allowed, is_url

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RerankedRun:
    """For each query, in the run's order: its documents as the run spells them, best first, with their hits."""

    queries: dict[str, list[tuple[str, Hit]]]
    skipped: list[str]
    pairs: int
    images: int


class DocumentFinder:
    """Finds the image file that a run's document stands for.

    Tried in turn: the document as it is written, and decoded as `bt eval --run-out` encodes names; below the image
    folder and as a path; with its suffix and, in the image folder, without one (`3428278415` for `3428278415.jpg`).
    An address stays one, which with `allow_private` may be of this machine's own networks.

    Raises:
        NotFound: There is no such folder.
    """

    def __init__(self, folder: Path | None, allow_private: bool = False) -> None:
        if folder is not None and not folder.is_dir():
            raise NotFound(f"{shown_path(folder)}: no such folder; --images names where the run's documents are")
        self._allow_private = allow_private
        self._folder = folder
        self._by_stem: dict[str, str] | None = None

    def __call__(self, document: str) -> str:
        """The path; where nothing is found, the most natural one, for the message that it is missing."""
        names = dict.fromkeys((document, decode_id(document)))
        for name in names:
            if self._folder is not None and os.path.isfile(self._folder / name):
                return str(self._folder / name)
        for name in names:
            if os.path.isfile(name):
                return name
        for name in names:
            if name in self._stems():
                return self._stems()[name]
        address = next((name for name in names if is_url(name)), None)
        if address is not None:
            return allowed(address) if self._allow_private else address
        return str(self._folder / document) if self._folder is not None else document

    def _stems(self) -> dict[str, str]:
        if self._by_stem is None:
            self._by_stem = {}
            if self._folder is not None:
                for entry in sorted(os.scandir(self._folder), key=lambda entry: entry.name):
                    if entry.is_file():
                        self._by_stem.setdefault(os.path.splitext(entry.name)[0], entry.path)
        return self._by_stem


def rerank_run(
    reranker: PairReader,
    run: Mapping[str, Sequence[RunEntry]],
    texts: Mapping[str, str],
    find: DocumentFinder,
    *,
    candidates: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> RerankedRun:
    """Order each query's documents by the ITM head; each image and each text is encoded once.

    Args:
        reranker: The model.
        run: Entries of each query, best first, as :func:`read_run` gives them.
        texts: What each query asks.
        find: From a document to its image file.
        candidates: Only this many of each query's best entries are read and returned; None: all.
        strict: Raise on an image that can't be read, instead of leaving it out.
        progress: Called with pairs done and pairs in all.

    Raises:
        Misuse: A query of the run has no text.
        UnreadableImage: With `strict`, an image; without, every image.
    """
    kept = {query: list(entries)[:candidates] for query, entries in run.items()}
    unknown = [query for query in kept if query not in texts]
    if unknown:
        raise Misuse(f"query {unknown[0]} of the run has no text in --queries ({len(unknown)} of {len(kept)} lack one)")
    documents = {name: row for row, name in enumerate(dict.fromkeys(e.document for es in kept.values() for e in es))}
    paths = [find(name) for name in documents]
    logits, failures = _read_pairs(reranker, kept, documents, paths, texts, strict, progress)
    queries: dict[str, list[tuple[str, Hit]]] = {}
    start = 0
    for query, entries in kept.items():
        read = enumerate(entries, start)
        rows = [(row, entry) for row, entry in read if documents[entry.document] not in failures]
        start += len(entries)
        # The place stands for the id, so that ties keep the run's order.
        pool = [Candidate(paths[documents[entry.document]], id=place) for place, (_, entry) in enumerate(rows)]
        hits = order_by_match(pool, logits[[row for row, _ in rows]][:, None, :], [1.0]) if rows else []
        queries[query] = [(rows[hit.id or 0][1].document, hit) for hit in hits]
    return RerankedRun(queries, [failures[row] for row in sorted(failures)], start, len(paths) - len(failures))


def _read_pairs(
    reranker: PairReader,
    run: Mapping[str, Sequence[RunEntry]],
    documents: Mapping[str, int],
    paths: Sequence[str],
    texts: Mapping[str, str],
    strict: bool,
    progress: Progress | None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Logits `(p, 2)` of all pairs in the run's order, and the reasons of the images that can't be read, by row."""
    import numpy as np

    wording = {text: row for row, text in enumerate(dict.fromkeys(texts[query] for query in run))}
    pairs = [(documents[entry.document], wording[texts[query]]) for query, entries in run.items() for entry in entries]
    failures: dict[int, str] = {}

    def note(row: int, error: UnreadableImage) -> None:
        failures[row] = str(error)

    logits = reranker.itm(
        paths,
        list(wording),
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        progress=progress,
        on_error=None if strict else note,
    )
    if paths and len(failures) == len(paths):
        raise UnreadableImage(f"none of the run's {len(paths)} images can be read; first: {failures[min(failures)]}")
    return logits, failures
