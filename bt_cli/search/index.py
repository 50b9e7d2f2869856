"""An index as Python programs use it: open it, search it, rerank what was found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from bt_cli.search.candidates import Hit, from_arguments
from bt_cli.search.models import SearchModels
from bt_cli.search.photo_filter import PhotoFilter
from bt_cli.search.query import Query
from bt_cli.search.rerank import rerank_images
from bt_cli.search.two_stage import CANDIDATES, Request, search

if TYPE_CHECKING:
    from PIL import Image

    from bt_cli.inference.model import Model
    from bt_cli.store.index_folder import IndexFolder


class Index:
    """An index folder, opened for questions; `Index.open` makes it.

    The checkpoint that made the index is loaded with the first question and stays loaded. An `Index` sees the
    generation that was there when it was opened, whatever a writer does meanwhile.

    Attributes:
        folder: The index folder.
        models: The checkpoints that find and rerank.

    Example:
        >>> index = bt_cli.Index.open("photos/.bt")
        >>> for hit in index.search("a red car", k=3, rerank=True):
        ...     print(hit.rank, hit.path, hit.itm_prob)
    """

    def __init__(self, opened: IndexFolder, models: SearchModels) -> None:
        self._opened = opened
        self.folder = opened.folder
        self.models = models.at_index(opened)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str] | None = None,
        *,
        model: str | None = None,
        reranker: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Index:
        """Open an index.

        Args:
            folder: The index folder; None takes `.bt` in the working directory, or the nearest one above it.
            model: The checkpoint that finds; None takes the one that made the index.
            reranker: The checkpoint that reranks; None takes the same where it has an ITM head, else
                `BridgeTower/bridgetower-large-itm-mlm`.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            dtype: "auto", "float32", "bfloat16" or "int8".

        Raises:
            NoIndex: There is none.
            BrokenIndex: Its files are damaged or do not fit together.
        """
        from bt_cli.store.index_folder import IndexFolder

        opened = IndexFolder.open(IndexFolder.locate(folder))
        return cls(opened, SearchModels(model, reranker, device, dtype))

    def search(
        self,
        text: str | None = None,
        *,
        image: str | os.PathLike[str] | Image.Image | None = None,
        add: Sequence[str] = (),
        subtract: Sequence[str] = (),
        k: int = 10,
        rerank: bool = False,
        candidates: int = CANDIDATES,
        captions: bool = False,
        globs: Sequence[str] = (),
        min_score: float | None = None,
        combine: str | None = None,
        after: str | None = None,
        before: str | None = None,
        near: str | None = None,
        cameras: Sequence[str] = (),
        facts: bool = False,
    ) -> list[Hit]:
        """The best answers to a question, best first.

        Args:
            text: What to look for.
            image: An image to look for, alone or together with the texts.
            add: Texts to add, with a weight where one is written: `"2:at night"`.
            subtract: Texts to take away, likewise.
            k: Most answers.
            rerank: Let the ITM head read the best candidates together with the text, and order by its match logit.
            candidates: How many it reads.
            captions: Answer with captions instead of images.
            globs: Only images whose path matches one of these, and none that begins with `!`.
            combine: What the candidates are ordered by: "itm", the match logit, "itm+itc", the logit plus the cosine,
                or "itc", the cosine; None: as the checkpoint keeps as its best, else "itm".
            min_score: Only answers with at least this score: the cosine, or after reranking the match logit.
            after: Only images taken then or later: `"2024"`, `"2024-06"`, `"2024-06-03"`, `"2024-06-03T14:05"`; with an
                offset (`"+02:00"`, `"Z"`) an instant, else the clock's time where the image was taken.
            before: Only images taken before the beginning of that.
            near: Only images taken within a radius of a place: `"48.2,16.37,20km"`.
            cameras: Only images taken with one of these: parts of a name, or globs of a whole one.
            facts: Say of each answer how its image was taken, in `hit.facts`, and what was carried along from its
                source (`bt index --keep`), in `hit.kept`.

        Returns:
            At most `k` hits, each with `rank`, `id`, `path`, `score`, `itc` (cosine in [-1, 1]) and, after reranking,
            `itm_logit` and `itm_prob` (in [0, 1]); with `facts`, a `PhotoFacts` (`taken_text`, `camera`, `latitude`,
            `longitude`, each None where the file does not say it). The answer for a small `k` is the beginning of a
            larger one's.

        Raises:
            Misuse: Nothing to look for, terms that cancel one another out, or a time or place that is none.
            IndexMismatch: The model is not the one that made the index.
            MissingHead: The model has no ITC head, or the reranker no ITM head.
            NoIndex: Captions are wanted and the index holds none.
        """
        wanted = os.fspath(image) if isinstance(image, os.PathLike) else image
        query = Query.build(text, wanted, add=add, subtract=subtract)
        request = Request(
            query,
            k,
            captions,
            tuple(globs),
            min_score,
            candidates if rerank else None,
            combine=combine,
            photos=PhotoFilter.build(after, before, near, cameras),
            facts=facts,
        )
        return search(self._opened, request, self.models).hits

    def rerank(self, text: str, images: Sequence[str], *, k: int | None = None) -> list[Hit]:
        """Put images in the order in which they match a text, whether the index holds them or not.

        Args:
            text: What they are compared with.
            images: Paths of images, or of folders of images.
            k: Most answers; None for all.

        Returns:
            Hits with `itm_logit` and `itm_prob`, best first.

        Raises:
            MissingHead: The reranker has no ITM head.
            UnreadableImage: An image can't be read.
        """
        query = Query.build(text)
        paths = from_arguments([os.fspath(image) for image in images])
        return rerank_images(self.models.reranker(), paths, query.texts, strict=True).hits[:k]

    @property
    def retriever(self) -> Model:
        """The model that embeds queries, loaded now if it was not."""
        return self.models.retriever()

    @property
    def checkpoint(self) -> str:
        """The name of the checkpoint that made the index."""
        return self._opened.identity.checkpoint

    def paths(self) -> list[str]:
        """The paths of all images, in the order of their ids."""
        return self._opened.paths(range(len(self)))

    def close(self) -> None:
        """Close the index's files."""
        self._opened.close()

    def __len__(self) -> int:
        return len(self._opened)

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        captions = self._opened.captions
        more = f", {len(captions):,} captions" if captions is not None else ""
        return f"<Index {os.fspath(self.folder)!r}: {len(self):,} images{more}, by {self.checkpoint}>"
