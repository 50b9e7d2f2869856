"""What is to be reranked: images from arguments or stdin, or the hits of a search."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bt_cli.datasets.image_folder import find_images
from bt_cli.errors import EmptyFolder, Misuse
from bt_cli.files.photo_facts import PhotoFacts
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.member import is_container
from bt_cli.sources.url_list import is_url_list
from bt_cli.sources.web_address import allowed, is_in_store, is_url


@dataclass(frozen=True)
class Hit:
    """One image or caption that was found.

    Attributes:
        rank: Place in the answer, from 1.
        id: Row in the index (of images, or of captions for a caption); None for an image that came from elsewhere.
        path: The image file; for a caption the image it belongs to, None where that is not known.
        score: What the answer is ordered by: `itc` after a search, the match logit after reranking.
        itc: Cosine of the query's and the answer's embeddings, in [-1, 1].
        itm_logit: Raw logit of "match" from the ITM head.
        itm_prob: Softmax of the two ITM logits, in [0, 1].
        caption: The caption found; None for an image.
        facts: How the image was taken, where that was asked for.
        kept: What was carried along from its source, likewise, where the index keeps columns.
    """

    rank: int
    id: int | None
    path: str | None
    score: float
    itc: float | None = None
    itm_logit: float | None = None
    itm_prob: float | None = None
    caption: str | None = None
    facts: PhotoFacts | None = None
    kept: Mapping[str, str | None] | None = None

    def at(self, rank: int) -> Hit:
        """The same answer at another place."""
        return replace(self, rank=rank)

    def allowed(self) -> Hit:
        """The same; where its path is an address, it may be one of this machine's own networks."""
        return replace(self, path=allowed(self.path)) if self.path is not None else self

    def record(self) -> dict[str, Any]:
        """The `--json` object: the contract's keys in the contract's order, `caption` only for captions, and what is
        known of how the image was taken and what was carried along behind them."""
        record: dict[str, Any] = {"rank": self.rank, "id": self.id, "path": self.path}
        if self.caption is not None:
            record["caption"] = self.caption
        for name in ("score", "itc", "itm_logit", "itm_prob"):
            record[name] = seven_digits(getattr(self, name))
        record |= {} if self.facts is None else self.facts.record()
        return record if self.kept is None else record | {"kept": dict(self.kept)}


def seven_digits(value: float | None) -> float | None:
    """A float32 value without the digits that its double form makes up."""
    return None if value is None else float(f"{value:.7g}")


@dataclass(frozen=True)
class Candidate:
    """An image (or, with `caption`, a caption) to be reranked; `id` and `itc` where a search found it."""

    path: str | None
    id: int | None = None
    itc: float | None = None
    caption: str | None = None

    def allowed(self) -> Candidate:
        """The same; where its path is an address, it may be one of this machine's own networks."""
        return replace(self, path=allowed(self.path)) if self.path is not None else self


def from_hits(hits: Iterable[Hit]) -> list[Candidate]:
    """The answers of a search as candidates."""
    return [Candidate(hit.path, hit.id, hit.itc, hit.caption) for hit in hits]


def from_paths(paths: Sequence[str]) -> list[Candidate]:
    """Image files as candidates."""
    return [Candidate(path) for path in paths]


def from_arguments(arguments: Sequence[str]) -> list[Candidate]:
    """Images named one by one, files or addresses, and those below each folder, in each tar or Parquet file, or
    in each list of addresses that is named.

    Raises:
        EmptyFolder: There is no image below a folder.
    """
    paths: list[str] = []
    for argument in arguments:
        in_shard = is_container(argument) and (os.path.isfile(argument) or is_url(argument))
        in_shard |= is_in_store(argument) and (argument.endswith("/") or "*" in argument)
        if not (os.path.isdir(argument) or in_shard or is_url_list(argument)):
            paths.append(argument)  # what is missing or no image is told when it is read
            continue
        paths += _images_in(argument)
    return from_paths(paths)


def _images_in(place: str) -> list[str]:
    errors: list[OSError] = []
    found = [image.path for image in find_images([place], on_error=lambda _, error: errors.append(error))]
    if not found:
        reason = f": {errors[0].strerror or errors[0]}" if errors else ""
        raise EmptyFolder(f"{shown_path(place)}: no images there{reason}")
    return found


def from_bytes(data: bytes, *, nul: bool = False) -> list[Candidate]:
    """Candidates as another program wrote them: paths, or `bt search --json` lines, told apart by the first line.

    Args:
        data: Paths, one a line (or, with `nul`, each ended by a NUL), or JSON objects with a `path`, one a line.
        nul: Paths are ended by NULs and may hold line breaks. Where there is no NUL, the data are taken by lines.

    Raises:
        Misuse: A JSON line that is none, has no path or an itc that is none; the message has its number.
    """
    if nul and b"\0" in data:
        return from_paths([os.fsdecode(path) for path in data.split(b"\0") if path])
    lines = data.split(b"\n")
    first = next((line for line in lines if line.strip()), b"")
    if _is_object(first):
        return [_from_json(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    return from_paths([os.fsdecode(path) for path in (line.removesuffix(b"\r") for line in lines) if path])


def _is_object(line: bytes) -> bool:
    """Whether a line is a JSON object; a file may well be called `{a}.png`, so the brace alone says little."""
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _from_json(line: bytes, number: int) -> Candidate:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise Misuse(f"stdin line {number} is no JSON object, as the first line is: {error}") from None
    path = record.get("path") if isinstance(record, dict) else None
    if not isinstance(path, str) or not path:
        raise Misuse(f'stdin line {number} has no "path": expected the lines of `bt search --json`')
    id, itc = record.get("id"), record.get("itc")
    if isinstance(itc, (int, float)) and not -1e30 < itc < 1e30:
        raise Misuse(f'stdin line {number}: "itc" is {str(itc)[:20]}, and a cosine is a number from -1 to 1')
    return Candidate(
        path,
        id if isinstance(id, int) and not isinstance(id, bool) else None,
        float(itc) if isinstance(itc, (int, float)) and not isinstance(itc, bool) else None,
    )
