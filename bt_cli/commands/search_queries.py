"""`bt search --queries`: every text of a file, in one go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bt_cli.display.closing_line import closing_line, count
from bt_cli.display.data_lines import write_line, write_object
from bt_cli.search.candidates import Hit
from bt_cli.search.many import ManyTexts

if TYPE_CHECKING:
    from bt_cli.api.client import RemoteAnswers
    from bt_cli.search.many import ManyAnswers

TAG = "bt-itc"
"""The system's name, last column of the run."""


def write_answers(answers: ManyAnswers | RemoteAnswers, asked: ManyTexts, *, started: float, as_json: bool) -> None:
    """Write the answers as a TREC run on stdout, or as JSON lines that carry the query's id."""
    found = 0
    for query, hits in answers:
        found += len(hits)
        if as_json:
            for hit in hits:
                write_object({"query": query, **hit.record()})
        else:
            for line in _run_lines(query, hits):
                write_line(line)
    noun = "caption" if asked.to_captions else "image"
    closing_line(
        f"{count(found, 'answer')} to {count(len(asked.texts), 'query', 'queries')} "
        f"from {count(answers.searched, noun)}{_left_out(answers, asked)}",
        seconds=time.perf_counter() - started,
        model=answers.engine if asked.texts else None,
    )


def _left_out(answers: ManyAnswers | RemoteAnswers, asked: ManyTexts) -> str:
    return f" ({asked.photos.left_out(answers.unknown)})" if asked.photos is not None and answers.unknown else ""


def _run_lines(query: str, hits: list[Hit]) -> Iterator[str]:
    """The lines of a TREC run; a document is the image's path, encoded where it has to be."""
    from bt_cli.datasets.trec import descending_scores, encode_id

    for hit, score in zip(hits, descending_scores([hit.score for hit in hits]), strict=True):
        yield f"{query} Q0 {encode_id(hit.path or '')} {hit.rank} {score} {TAG}"
