"""`bt search --html`: the answers of a search as a gallery."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.files.atomic_write import write_whole
from bt_cli.pages.gallery import Card, gallery
from bt_cli.search.query import Query, Term

if TYPE_CHECKING:
    from bt_cli.pages.picture import Picture
    from bt_cli.search.candidates import Hit
    from bt_cli.search.two_stage import Answer, Request
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.index_set import IndexSet

CAPTIONS = 5
"""Captions of an image that a page shows."""


@dataclass(frozen=True)
class Background:
    """What a page shows beside the answers.

    Attributes:
        checkpoint: What made the index.
        captions: Of each image found, by its id.
        read: Gives an answer's picture, its longer side at most so many pixels; None: it is read from its path.
    """

    checkpoint: str
    captions: Mapping[int | None, Sequence[str]]
    read: Callable[[Hit, int], Picture] | None = None


def background_of(folder: IndexFolder | IndexSet, request: Request, answer: Answer) -> Background:
    """What an index that is here has to say of the answers found in it."""
    return Background(folder.identity.checkpoint, {} if request.to_captions else captions_of(folder, answer.hits))


def write_search_page(place: Path, request: Request, answer: Answer, background: Background) -> list[str]:
    """Write the gallery of a search to `place`; gives what could not be shown, each with its reason.

    Raises:
        Unwritable: `place` can't be written.
    """
    best = max((hit.score for hit in answer.hits), default=0.0)
    cards = [_card(hit, best, answer.first_ranks, background) for hit in answer.hits]
    noun = "caption" if request.to_captions else "image"
    remarks = [f"{len(cards)} of {answer.searched:,} {noun}s"]
    if answer.read:
        remarks.append(f"{answer.read:,} reranked")
    if not answer.read:
        remarks.append(f"with {background.checkpoint}")
    made = gallery(in_words(request.query), remarks, cards, place=place)
    write_whole(place, made.html)
    return made.skipped


def in_words(query: Query) -> str:
    """A query as a title: `a dog − a cat + image scene.jpg`; a weight other than 1 stands before its term."""
    said = ""
    terms = [(term, str(term.content)) for term in query.texts]
    terms += [(term, f"image {os.path.basename(str(term.content))}") for term in query.images]
    for term, name in terms:
        sign = "− " if term.weight < 0 else "+ " if said else ""
        said += f"{' ' if said else ''}{sign}{_weight(term)}{name}"
    return said


def captions_of(folder: IndexFolder | IndexSet, hits: Sequence[Hit]) -> Mapping[int | None, list[str]]:
    """The captions that the index has of the images found, at most `CAPTIONS` each, by the image's id."""
    import numpy as np

    if folder.captions is None or not hits:
        return {}
    owners = np.asarray(folder.captions.image_ids(np.arange(len(folder.captions))))
    ids = np.array([-1 if hit.id is None else hit.id for hit in hits], dtype=np.int64)
    mine = np.flatnonzero(np.isin(owners, ids[ids >= 0]))
    found: dict[int | None, list[str]] = {}
    for owner, caption in zip(owners[mine].tolist(), folder.captions.texts(mine), strict=True):
        known = found.setdefault(owner, [])
        if len(known) < CAPTIONS:
            known.append(caption)
    return found


def _card(hit: Hit, best: float, first_ranks: Mapping[int, int], background: Background) -> Card:
    name = os.path.basename(hit.path) if hit.path is not None else "a caption"
    facts = {} if hit.itc is None else {"cosine (ITC)": f"{hit.itc:.4f}"}
    if hit.itm_logit is not None:
        facts = {"match logit (ITM)": f"{hit.itm_logit:.2f}"} | facts
    if hit.itm_prob is not None:
        share, figure = hit.itm_prob, f"{100 * hit.itm_prob:.1f} % match"
    else:
        share, figure = (hit.score / best if best > 0 else 0.0), f"{hit.score:.4f}"
        facts = {}
    before = first_ranks.get(hit.id) if hit.id is not None else None
    heading = name if hit.caption is None else hit.caption
    captions = background.captions.get(hit.id, ())
    read = None if background.read is None else functools.partial(background.read, hit)
    return Card(hit.path, heading, share, figure, facts, captions, before, read)


def _weight(term: Term) -> str:
    return "" if abs(term.weight) == 1 else f"{abs(term.weight):g} × "
