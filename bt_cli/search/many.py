"""Many texts searched for in one go: encoded in batches, found by one product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bt_cli.errors import NoIndex
from bt_cli.inference.model_identity import identity_of
from bt_cli.search.candidates import Hit
from bt_cli.search.nearest import caption_hits, captions_of, image_hits, nearest_each, wanted_images, with_facts
from bt_cli.search.query import text_embeddings, validate_text

if TYPE_CHECKING:
    from bt_cli.inference.engine import Engine
    from bt_cli.search.models import SearchModels
    from bt_cli.search.photo_filter import PhotoFilter
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.index_set import IndexSet

TEXTS_AT_ONCE = 1024
"""Texts whose embeddings and answers are held at a time."""


@dataclass(frozen=True)
class ManyTexts:
    """Texts by their ids, each a query of its own; the rest as in :class:`bt_cli.search.two_stage.Request`."""

    texts: Mapping[str, str]
    k: int = 10
    to_captions: bool = False
    globs: tuple[str, ...] = ()
    min_score: float | None = None
    photos: PhotoFilter | None = None
    facts: bool = False

    def check(self) -> None:
        """Refuse what can't be done, before anything is loaded.

        Raises:
            Misuse: A text is empty, or no text.
        """
        for query, text in self.texts.items():
            validate_text(text, f"query {query}")


class ManyAnswers:
    """The answers to many texts, found as they are asked for: (id, its hits) in the order of the texts.

    Attributes:
        searched: How many images or captions the index holds.
        unknown: Images left out since nothing is known of what `ManyTexts.photos` asks.

    Raises:
        NoIndex: Captions are wanted and the index holds none.
        IndexMismatch: The retriever is not the checkpoint that made the index.
        MissingHead: The retriever has no ITC head.
    """

    def __init__(self, folder: IndexFolder | IndexSet, asked: ManyTexts, models: SearchModels) -> None:
        asked.check()
        self._folder, self._asked = folder, asked
        if asked.to_captions and folder.captions is None:
            raise NoIndex("the index holds no captions; bt index IMAGES --captions FILE adds them")
        self._retriever = models.at_index(folder).retriever()
        folder.require(identity_of(self._retriever, precision=folder.identity.precision))
        captions = folder.captions
        self._ids, self.unknown = wanted_images(folder, asked.globs, asked.photos)
        self.searched = len(captions) if asked.to_captions and captions is not None else len(folder)

    @property
    def engine(self) -> Engine:
        """What the texts were encoded with."""
        return self._retriever.engine

    def __iter__(self) -> Iterator[tuple[str, list[Hit]]]:
        asked, folder, captions = self._asked, self._folder, self._folder.captions
        wanted = captions if asked.to_captions else None
        ids = self._ids if wanted is None else captions_of(wanted, self._ids)
        queries = list(asked.texts)
        for first in range(0, len(queries), TEXTS_AT_ONCE):
            part = queries[first : first + TEXTS_AT_ONCE]
            embeddings = text_embeddings([asked.texts[query] for query in part], self._retriever)
            index = folder if wanted is None else wanted
            found = nearest_each(index, embeddings, asked.k, ids=ids, min_score=asked.min_score)
            for query, best in zip(part, found, strict=True):
                hits = image_hits(folder, *best) if wanted is None else caption_hits(wanted, folder, *best)
                yield query, with_facts(folder, wanted, hits) if asked.facts else hits
