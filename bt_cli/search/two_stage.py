"""A whole search: candidates by embedding, and, where asked for, their order by the ITM head."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bt_cli.errors import Misuse, NoIndex
from bt_cli.inference.model_identity import identity_of
from bt_cli.search.candidates import Hit, from_hits
from bt_cli.search.nearest import search_captions, search_images, wanted_images, with_facts
from bt_cli.search.query import Query
from bt_cli.search.rerank import Reranked, rerank_captions, rerank_images, reranked_texts

if TYPE_CHECKING:
    import numpy as np

    from bt_cli.inference.engine import Engine
    from bt_cli.inference.model import Model
    from bt_cli.search.models import SearchModels
    from bt_cli.search.photo_filter import PhotoFilter
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.index_set import IndexSet


CANDIDATES = 100
"""Answers of the first stage that the ITM head reads, where nothing else is said."""


@dataclass(frozen=True)
class Request:
    """What is wanted of an index.

    Attributes:
        query: What is looked for.
        k: Most answers.
        to_captions: Answer with captions instead of images.
        globs: Only images whose path matches; applied before the best are taken, so that `k` come where `k` fit.
        min_score: Only answers with at least this score: the cosine, or after reranking the match logit.
        candidates: How many of the first stage's answers the ITM head reads; None: no second stage. It does not grow
            with `k`, so that a small `k` gives the beginning of a larger one's answer.
        strict: An image that can't be read is an error instead of left out.
        combine: What candidates are ordered by: "itm", "itm+itc" or "itc"; None: as the checkpoint keeps as its best.
        unique: Leave out answers that are near twins (`duplicates.NEAR`) of a better one.
        allow_private_urls: Images on the web may be read from this machine's own networks, too.
        photos: Only images taken then, there and with that.
        facts: Say of each answer how its image was taken.
    """

    query: Query
    k: int = 10
    to_captions: bool = False
    globs: tuple[str, ...] = ()
    min_score: float | None = None
    candidates: int | None = None
    strict: bool = False
    combine: str | None = None
    allow_private_urls: bool = False
    unique: bool = False
    photos: PhotoFilter | None = None
    facts: bool = False

    def check(self) -> None:
        """Refuse what can't be done, before anything is loaded.

        Raises:
            Misuse: Reranking without a text (or, for captions, without an image) to read; a least score that is none.
        """
        if self.min_score is not None and math.isnan(self.min_score):
            raise Misuse("--min-score nan: no score is at least that; give a number")
        if self.candidates is not None:
            reranked_texts(self.query, to_captions=self.to_captions)


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        hits: Best first, at most `k`.
        searched: How many images or captions the index holds.
        read: How many candidates the ITM head read; 0 without a second stage.
        skipped: Candidates that could not be read, each with its reason.
        reading: Seconds that the ITM head's work took, without loading.
        engine: What made the final order: device and precision; None where there was nothing to order.
        first_ranks: After a second stage, the place that the first gave each candidate, from 1, by its id.
        combine: What the candidates were ordered by.
        folded: Answers left out as twins of better ones.
        unknown: Images left out since nothing is known of what `Request.photos` asks.
        checkpoint: What found, and what reranked where that is another one, by name; "" where nobody said.
    """

    hits: list[Hit]
    searched: int
    read: int
    engine: Engine | None
    skipped: list[str] = field(default_factory=list)
    reading: float = 0.0
    first_ranks: Mapping[int, int] = field(default_factory=dict)
    combine: str = "itm"
    checkpoint: str = ""
    folded: int = 0
    unknown: int = 0


def search(
    folder: IndexFolder | IndexSet,
    request: Request,
    models: SearchModels,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Answer a request from an index; the retriever, where the user named none, is the checkpoint that made it.

    Raises:
        NoIndex: Captions are wanted and the index holds none.
        IndexMismatch: The retriever is not the checkpoint that made the index.
        MissingHead: The retriever has no ITC head, or the reranker no ITM head.
        Misuse: As :meth:`Request.check`, and for terms that cancel one another out.
    """
    request.check()
    models = models.at_index(folder)
    captions = folder.captions
    if request.to_captions and captions is None:
        raise NoIndex("the index holds no captions; bt index IMAGES --captions FILE adds them")
    second_stage = request.candidates is not None
    retriever = models.retriever(also_reranks=second_stage)
    # The precision is recorded and never compared; to ask the model for its own would import torch.
    folder.require(identity_of(retriever, precision=folder.identity.precision))
    embedding = request.query.embedding(retriever)
    wanted = request.k if request.candidates is None else request.candidates
    floor = None if second_stage else request.min_score
    ids, unknown = wanted_images(folder, request.globs, request.photos)
    if request.to_captions and captions is not None:
        searched = len(captions)
        folded = 0
        hits = search_captions(captions, folder, embedding, wanted, ids=ids, min_score=floor)
    else:
        searched = len(folder)
        hits, folded = _images(folder, embedding, wanted, request, ids, floor)
    asked = captions if request.to_captions else None

    def shown(hits: list[Hit]) -> list[Hit]:
        return with_facts(folder, asked, hits) if request.facts else hits

    if request.allow_private_urls:
        hits = [hit.allowed() for hit in hits]
    if not second_stage or not hits:
        return Answer(
            shown(hits),
            searched,
            0,
            retriever.engine,
            checkpoint=names_of(retriever.checkpoint.name),
            folded=folded,
            unknown=unknown,
        )
    found_by = retriever.checkpoint.name
    del retriever
    combine = request.combine or models.combination()
    reranker = models.reranker()
    started = time.perf_counter()
    reranked = _rerank(reranker, request, hits, combine, progress)
    reading = time.perf_counter() - started
    best = [hit for hit in reranked.hits if request.min_score is None or hit.score >= request.min_score]
    first_ranks = {hit.id: hit.rank for hit in hits if hit.id is not None}
    read = len(reranked.hits)
    names = names_of(found_by, reranker.checkpoint.name)
    return Answer(
        shown(best[: request.k]),
        searched,
        read,
        reranker.engine,
        reranked.skipped,
        reading,
        first_ranks,
        combine,
        names,
        folded,
        unknown,
    )


def _images(
    folder: IndexFolder | IndexSet,
    embedding: np.ndarray,
    wanted: int,
    request: Request,
    ids: np.ndarray | None,
    floor: float | None,
) -> tuple[list[Hit], int]:
    """The nearest images, and how many twins of better ones were left out among them."""
    import numpy as np

    from bt_cli.search.duplicates import fold_twins

    count = wanted
    while True:
        hits = search_images(folder, embedding, count, ids=ids, min_score=floor)
        if not request.unique or not hits:
            return hits, 0
        kept = fold_twins(folder.vectors_of(np.array([hit.id for hit in hits])))
        if len(kept) >= wanted or len(hits) < count:
            last = kept[:wanted][-1]
            return [hits[place].at(rank) for rank, place in enumerate(kept[:wanted], 1)], last + 1 - len(kept[:wanted])
        count *= 2


def names_of(retriever: str, reranker: str | None = None) -> str:
    """The checkpoints of an answer in words; one that is a folder goes by the folder's own name."""
    found = os.path.basename(retriever.rstrip(os.sep)) if os.path.isdir(retriever) else retriever
    if reranker is None or reranker == retriever:
        return found
    return f"{found}, reranked by {names_of(reranker)}"


def _rerank(
    reranker: Model,
    request: Request,
    hits: list[Hit],
    combine: str,
    progress: Callable[[int, int], None] | None,
) -> Reranked:
    if request.to_captions:
        image = request.query.images[0].content
        return rerank_captions(reranker, from_hits(hits), image, combine=combine, progress=progress)
    terms = reranked_texts(request.query, to_captions=False)
    return rerank_images(reranker, from_hits(hits), terms, strict=request.strict, combine=combine, progress=progress)
