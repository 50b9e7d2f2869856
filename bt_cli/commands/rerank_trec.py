"""`bt rerank --run`: every query of a TREC run, in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_line, write_object
from bt_cli.search.candidates import Hit

TAG = "bt-itm"
"""The system's name, last column of the run."""


@dataclass(frozen=True)
class RunFiles:
    """The run to rerank, its queries, the folder of its documents, and where the new run goes (None: stdout)."""

    run: Path
    queries: Path
    images: Path | None = None
    out: Path | None = None


def rerank_trec(
    open_reader: Callable[[], Any],
    files: RunFiles,
    *,
    candidates: int | None,
    k: int | None,
    strict: bool,
    allow_private: bool,
    as_json: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Rerank a run and write it as a run, or as JSON lines that carry the query's id.

    `open_reader` gives what reads the pairs: a `PairReader` with `engine`, the device and precision of its answers.
    """
    from bt_cli.datasets.trec import read_queries, read_run, write_run
    from bt_cli.search.rerank_run import DocumentFinder, rerank_run

    started = time.perf_counter()
    run, texts, find = read_run(files.run), read_queries(files.queries), DocumentFinder(files.images, allow_private)
    reranker = open_reader()
    loaded = time.perf_counter()
    found = rerank_run(reranker, run, texts, find, candidates=candidates, strict=strict, progress=progress)
    working = time.perf_counter() - loaded
    queries = {query: hits[:k] for query, hits in found.queries.items()}
    if files.out is not None:
        write_run(files.out, {q: [(name, hit.score) for name, hit in hits] for q, hits in queries.items()}, tag=TAG)
    elif as_json:
        for query, hits in queries.items():
            for name, hit in hits:
                write_object({"query": query, "document": name, **hit.record(), "id": None})
    else:
        for query, hits in queries.items():
            _write_trec(query, hits)
    closing_line(
        f"{count(found.pairs, 'pair')} of {count(len(queries), 'query', 'queries')} reranked",
        seconds=time.perf_counter() - started,
        images=found.images,
        working=working,
        model=reranker.engine,
        skipped=found.skipped,
    )


def _write_trec(query: str, hits: list[tuple[str, Hit]]) -> None:
    from bt_cli.datasets.trec import descending_scores

    scores = descending_scores([hit.score for _, hit in hits])
    for (name, hit), score in zip(hits, scores, strict=True):
        write_line(f"{query} Q0 {name} {hit.rank} {score} {TAG}")
