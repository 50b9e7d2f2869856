"""TREC run, qrels and queries files, as trec_eval, pytrec_eval, ranx and pyserini write and read them.

    run      query Q0 document rank score tag      one ranked document a line
    qrels    query 0 document relevance            which documents belong to a query
    queries  query<TAB>text                        what was asked

Columns stand apart by spaces or tabs, so an id can hold neither: `encode_id` gives any name (a path with spaces, bytes
that are no UTF-8) a form that fits, `decode_id` gives the name back. The readers return ids as they stand in the file,
because a file of another origin may mean its `%` literally. Files may be gzipped; 2 GiB is the most that is read.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import unquote_to_bytes

import numpy as np

from bt_cli.errors import UnreadableRun
from bt_cli.files.atomic_write import open_whole
from bt_cli.files.bounded_read import open_file
from bt_cli.files.shown_path import shown_path

PathLike = str | os.PathLike[str]

Found = Sequence[tuple[str, float]]

GAPS = re.compile(r"[ \t]+")
UNFIT = re.compile(r"[\s%\x00-\x1f\x7f-\x9f\udc80-\udcff]")
"""White space, control characters, bytes that are no UTF-8, and the escape sign itself."""

LARGEST = 1 << 31
"""Bytes of the largest file that is read, unpacked: some 40 million lines."""
BLOCK = LONGEST_LINE = 1 << 20
LARGEST_RATIO, FREELY_UNPACKED = 100, 1 << 23
"""How many times its size a zipped file may unpack to, once that is more than so many bytes; runs reach 20."""

QUERY_HEADERS = {"id", "qid", "query_id", "query-id", "query"}
TEXT_HEADERS = {"text", "query", "query_text", "title", "caption"}
_COLUMNS = [f'"?(?:{"|".join(sorted(names))})"?' for names in (QUERY_HEADERS, TEXT_HEADERS)]
OTHER_FORMAT = re.compile(rf'\s*(?:\{{\s*"|\[\s*[{{"]|{"[,;|] ?".join(_COLUMNS)}\s*$)', re.IGNORECASE)
"""How queries as JSON, or as a table that is not separated by tabs, begin."""


class RunEntry(NamedTuple):
    """One line of a run: a document found for a query."""

    query: str
    document: str
    rank: int
    score: float
    tag: str


def encode_id(name: str) -> str:
    """A name as a TREC id: white space, control characters, `%` and stray bytes as `%XX` of their UTF-8 bytes."""
    if not name:
        raise ValueError("an empty name can't be an id")
    return UNFIT.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found[0])), name)


def decode_id(token: str) -> str:
    """The name that `encode_id` made this id from."""
    return os.fsdecode(unquote_to_bytes(token.encode("utf-8", "surrogateescape")))


def write_run(path: PathLike, run: Mapping[str, Found] | Iterable[tuple[str, Found]], *, tag: str = "bt") -> None:
    """Write a run, whole or not at all.

    Args:
        run: Query id -> (document id, score), best first; or such pairs one by one, for runs larger than memory.
        tag: The system's name, last column.

    Readers order by the score column alone, with rules of their own among ties, and trec_eval keeps it as a 32-bit
    float. So each score is written as float32, and where it would not lie below the one before, as the next float32
    below that: every reader then finds the order given here.
    """
    _check_id(tag)
    with open_whole(path) as file:
        for query, found in run.items() if isinstance(run, Mapping) else run:
            _check_id(query)
            scores = descending_scores([score for _, score in found])
            for rank, ((document, _), score) in enumerate(zip(found, scores, strict=True), 1):
                _check_id(document)
                file.write(f"{query} Q0 {document} {rank} {score} {tag}\n".encode("utf-8", "surrogateescape"))


def write_qrels(path: PathLike, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write qrels, whole or not at all: query id -> document id -> relevance."""
    with open_whole(path) as file:
        for query, documents in qrels.items():
            _check_id(query)
            for document, relevance in documents.items():
                _check_id(document)
                file.write(f"{query} 0 {document} {int(relevance)}\n".encode("utf-8", "surrogateescape"))


def write_queries(path: PathLike, queries: Mapping[str, str]) -> None:
    """Write a queries file: query id -> text, on one line each (runs of white space become one space)."""
    with open_whole(path) as file:
        for query, text in queries.items():
            _check_id(query)
            file.write(f"{query}\t{' '.join(text.split())}\n".encode("utf-8", "surrogateescape"))


def read_run(path: PathLike) -> dict[str, list[RunEntry]]:
    """Read a run: queries in the file's order, each with its entries best first.

    As for trec_eval the score column decides, not the rank column; equal scores keep the order of their ranks, then
    that of the file.

    Raises:
        NotFound: There is no such file.
        UnreadableRun: A line that is no run line, or a document named twice for a query; the message has the line
            number.
    """
    run: dict[str, dict[str, RunEntry]] = {}
    for number, line in _lines(path):
        fields = GAPS.split(line.strip(" \t"), maxsplit=5)
        if len(fields) < 5:
            raise _unreadable(path, number, "expected 'query Q0 document rank score tag'")
        query, _, document, rank, score = fields[:5]
        tag = fields[5] if len(fields) == 6 else ""
        entry = RunEntry(query, document, _rank(path, number, rank), _score(path, number, score), tag)
        found = run.setdefault(query, {})
        if document in found:
            raise _unreadable(path, number, f"document {document} stands twice for query {query}")
        found[document] = entry
    return {query: sorted(found.values(), key=lambda e: (-e.score, e.rank)) for query, found in run.items()}


def read_qrels(path: PathLike) -> dict[str, dict[str, int]]:
    """Read qrels: query id -> document id -> relevance, in the file's order.

    Raises:
        NotFound: There is no such file.
        UnreadableRun: A line that is no qrels line, or a document judged twice; the message has the line number.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = GAPS.split(line.strip(" \t"))
        if len(fields) != 4:
            raise _unreadable(path, number, "expected 'query 0 document relevance'")
        query, _, document, relevance = fields
        judged = qrels.setdefault(query, {})
        if document in judged:
            raise _unreadable(path, number, f"document {document} is judged twice for query {query}")
        try:
            judged[document] = int(relevance)
        except ValueError:
            raise _unreadable(path, number, f"{relevance!r} is no relevance (a whole number)") from None
    return qrels


def read_queries(path: PathLike) -> dict[str, str]:
    """Read a queries file, `id<TAB>text` a line, in the file's order; a header such as `id<TAB>text` is passed over.

    Raises:
        NotFound: There is no such file.
        UnreadableRun: A line without a tab, an empty text, or an id that stands twice; the message has the line number.
    """
    queries: dict[str, str] = {}
    for number, line in _lines(path):
        query, tab, text = line.partition("\t")
        query, text = query.strip(), text.strip()
        if number == 1 and query.lower() in QUERY_HEADERS and text.lower() in TEXT_HEADERS:
            continue
        if not tab or not query:
            raise _unreadable(path, number, "expected 'id<TAB>text'")
        if not text:
            raise _unreadable(path, number, f"query {query} has no text")
        if query in queries:
            raise _unreadable(path, number, f"query {query} stands twice")
        queries[query] = text
    return queries


def read_texts(path: PathLike) -> dict[str, str]:
    """Read queries as `read_queries` does, or texts alone, one a line: their ids are then the lines' numbers.

    Raises:
        NotFound: There is no such file.
        UnreadableRun: There is no query in it, or as `read_queries` where any line has a tab; or it is another table
            or JSON lines, whose syntax would be asked for.
    """
    lines = list(_lines(path))
    if any("\t" in line.strip() for _, line in lines):
        return read_queries(path)
    if lines and OTHER_FORMAT.match(lines[0][1]):
        raise _unreadable(path, lines[0][0], "no text but another format; write one a line, or id<TAB>text")
    if not lines:
        raise UnreadableRun(f"{shown_path(path)}: no query there; write one a line, or id<TAB>text")
    return {str(number): line.strip() for number, line in lines}


def descending_scores(scores: Sequence[float]) -> list[str]:
    """Scores, best first, as decimal float32 numbers that fall strictly (see `write_run`).

    Raises:
        ValueError: A score is not finite, or the scores rise.
    """
    written: list[str] = []
    above, before = np.float32(np.inf), math.inf
    for score in scores:
        if not math.isfinite(score):
            raise ValueError(f"a score of {score} can't be ranked")
        if score > before:
            raise ValueError(f"scores must be given best first: {score} follows {before}")
        before = score
        above = min(np.float32(score), np.nextafter(above, np.float32(-np.inf)))
        written.append(str(above))
    return written


def _lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers; unzipped, without byte order mark and line ends.

    Read one at a time, so that what is in memory is what the lines said, however much a zipped file unpacks to.
    """
    with open_file(path, UnreadableRun) as packed:
        try:
            for number, line in enumerate(_bounded_lines(packed, shown_path(path)), 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if b"\0" in line:
                    raise _unreadable(path, number, "holds a NUL byte; convert the file to UTF-8")
                text = line.rstrip(b"\r").decode("utf-8", "surrogateescape").strip(" ")
                if text.strip():
                    yield number, text
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableRun(f"{shown_path(path)}: {_reason(error)}") from error


def _bounded_lines(packed: BinaryIO, shown: str) -> Iterator[bytes]:
    """The lines of a file that may be zipped. Raises UnreadableRun for one without end, or one that unpacks to one."""
    zipped = packed.peek(2).startswith(b"\x1f\x8b")  # type: ignore[attr-defined]  # open() gives a buffered reader
    content = cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if zipped else packed
    total = 0
    rest = b""
    while block := content.read(BLOCK):
        total += len(block)
        if total > LARGEST:
            raise UnreadableRun(f"{shown}: more than {LARGEST >> 30} GiB{' unpacked' if zipped else ''}; split it")
        if zipped and total > FREELY_UNPACKED and total > LARGEST_RATIO * packed.tell():
            raise UnreadableRun(f"{shown}: unpacks to more than {LARGEST_RATIO} times its size, as no run does")
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise UnreadableRun(f"{shown}: a line longer than {LONGEST_LINE >> 20} MiB, as no run has")
        yield from lines
    if rest:
        yield rest


def _reason(error: Exception) -> str:
    damaged = isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile))
    return "broken gzip file; copy or download it again" if damaged else getattr(error, "strerror", None) or str(error)


def _rank(path: PathLike, number: int, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _unreadable(path, number, f"{text!r} is no rank (a whole number)") from None


def _score(path: PathLike, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _unreadable(path, number, f"{text!r} is no score")
    return score


def _check_id(name: str) -> None:
    if not name or re.search(r"\s", name):
        raise ValueError(f"{name!r} can't stand in a TREC file; encode_id makes an id of it")


def _unreadable(path: PathLike, number: int, reason: str) -> UnreadableRun:
    return UnreadableRun(f"{shown_path(path)}: line {number}: {reason}")
