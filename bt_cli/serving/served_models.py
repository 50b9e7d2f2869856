"""The checkpoints of a server: loaded once, kept, shared by its threads, texts embedded in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_cli.search.models import DEFAULT_RETRIEVER, SearchModels
from bt_cli.serving.micro_batches import MicroBatches
from bt_cli.serving.served_index import StoredImage
from bt_cli.serving.settings import Settings

if TYPE_CHECKING:
    from bt_cli.inference.model import Model

_ALL = ("text", "vision", "cross")


class BatchedRetriever:
    """A model as searches use it: texts of several requests in one pass, images of an index by their stored vector."""

    def __init__(self, model: Model, settings: Settings, counted: Callable[[int], None]) -> None:
        self.model = model
        self._texts: MicroBatches[str, np.ndarray] = MicroBatches(
            lambda texts: list(model.encode_texts(texts)),
            most=settings.batch,
            wait=settings.batch_wait,
            name="texts",
            counted=counted,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As `Model.encode_texts`."""
        from bt_cli.inference.truncation import warn_of_truncation

        warn_of_truncation(texts, self.model.tokenizer.encode(texts), self.model.tokenizer)
        return np.stack(self._texts.ask(texts))

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        """As `Model.encode_images`, and of `StoredImage`s."""
        rows = np.empty((len(images), self.model.dimension), np.float32)
        fresh = [place for place, image in enumerate(images) if not isinstance(image, StoredImage)]
        if fresh:
            rows[fresh] = self.model.encode_images([images[place] for place in fresh])
        for place, image in enumerate(images):
            if isinstance(image, StoredImage):
                rows[place] = image.vector()
        return rows

    def close(self) -> None:
        """End the thread that embeds."""
        self._texts.close()


@dataclass
class _Kept:
    """The models that are loaded, and the lock under which they are."""

    loading: threading.RLock = field(default_factory=threading.RLock)
    retriever: BatchedRetriever | None = None
    reranker: Model | None = None
    filler: Model | None = None


@dataclass(frozen=True)
class ServedModels(SearchModels):
    """`SearchModels` for many threads: what is loaded stays, and one model does all that its checkpoint can."""

    settings: Settings = field(default_factory=Settings)
    counted: Callable[[int], None] = field(default=lambda size: None, compare=False, repr=False)
    kept: _Kept = field(default_factory=_Kept, compare=False, repr=False)

    def retriever(self, *, also_reranks: bool = False) -> Any:
        """A `BatchedRetriever`, loaded at first with the reranker where one checkpoint is both."""
        with self.kept.loading:
            if self.kept.retriever is None:
                name = self.retriever_name or DEFAULT_RETRIEVER
                both = self.chosen_reranker() == name
                model = self._bounded(name, {"itc", "itm"} if both else {"itc"}, _ALL if both else ("text",))
                self.kept.retriever = BatchedRetriever(model, self.settings, self.counted)
                self.kept.reranker = model if both else None
            return self.kept.retriever

    def reranker(self) -> Model:
        """The model with the ITM head; the features that `bt index --bridge-cache` kept are used."""
        with self.kept.loading:
            if self.kept.reranker is None:
                self.kept.reranker = self._bounded(self.chosen_reranker(), {"itm"}, _ALL)
            if self.bridges is not None and self.kept.reranker.bridge_cache is None:
                self.kept.reranker.use_bridge_cache(self.bridges)
            return self.kept.reranker

    def mask_filler(self) -> Model:
        """The model with the MLM head: one that is loaded where it has it."""
        with self.kept.loading:
            if self.kept.filler is None:
                reranker = self.reranker()
                able = "mlm" in reranker.checkpoint.heads and reranker.checkpoint.name == self.retriever_name
                self.kept.filler = reranker if able else super().mask_filler()
                self.kept.filler.parts.need(_ALL, {"mlm"})
            return self.kept.filler

    def close(self) -> None:
        """End the threads and let go of the weights."""
        kept = self.kept
        with kept.loading:
            loaded = [model for model in (kept.reranker, kept.filler) if model is not None]
            if kept.retriever is not None:
                kept.retriever.close()
                loaded.append(kept.retriever.model)
            kept.retriever = kept.reranker = kept.filler = None
            for model in {id(model): model for model in loaded}.values():
                model.close()

    def _bounded(self, name: str, heads: set[str], towers: Sequence[str]) -> Model:
        model = self._load(name, heads, towers)
        model.keep_in_memory(self.settings.memory_bytes)
        return model
