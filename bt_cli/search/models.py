"""The two checkpoints of a search, retriever and reranker: loaded when needed, and once where one does both."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.inference.model import Model
    from bt_cli.store.index_folder import IndexFolder
    from bt_cli.store.index_set import IndexSet


DEFAULT_RETRIEVER = "BridgeTower/bridgetower-large-itm-mlm-itc"
DEFAULT_RERANKER = "BridgeTower/bridgetower-large-itm-mlm"


def choose_reranker(reranker: str | None, retriever: str | None, heads_of: Callable[[str], Collection[str]]) -> str:
    """The name of the checkpoint that reranks.

    The one that was named; else the retriever if it has an ITM head; else the published ITM checkpoint.

    Args:
        reranker: What the user asked for, or None.
        retriever: The checkpoint that finds the candidates, or None where nothing was found by one.
        heads_of: Tells a checkpoint's heads; asked only where the answer depends on it.
    """
    if reranker is not None:
        return reranker
    if retriever is not None and retriever != DEFAULT_RETRIEVER and "itm" in heads_of(retriever):
        return retriever
    return DEFAULT_RERANKER


@dataclass(frozen=True)
class SearchModels:
    """Which checkpoints find (ITC) and rerank (ITM), and where they compute. Nothing is opened before it is asked for,
    and no more of either than the work needs.

    Attributes:
        retriever_name: The checkpoint that finds, or None where the user named none.
        reranker_name: The checkpoint that the user named for reranking, or None.
        device: As :func:`bt_cli.load` takes it.
        dtype: Likewise.
        threads: Likewise; it is set when the first model is loaded.
        bridges: The folder of bridge features kept beside an index, or None.
        progress: Called with bytes done and bytes in all where a checkpoint has to be downloaded.
    """

    retriever_name: str | None
    reranker_name: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    bridges: Path | None = None
    progress: Callable[[int, int], None] | None = field(default=None, compare=False, repr=False)
    _opened: _Opened = field(default_factory=lambda: _Opened(), compare=False, repr=False)

    def at_index(self, folder: IndexFolder | IndexSet) -> SearchModels:
        """These models for an index: its checkpoint finds where the user named none; the features it kept are used."""
        from bt_cli.store.index_folder import BRIDGES

        kept = folder.folder / BRIDGES
        return replace(
            self,
            retriever_name=self.retriever_name or folder.identity.checkpoint,
            bridges=kept if kept.is_dir() else None,
        )

    def chosen_reranker(self) -> str:
        """The name of the checkpoint that reranks: see :func:`choose_reranker`."""
        return choose_reranker(self.reranker_name, self.retriever_name, lambda name: self._checkpoint(name).heads)

    def combination(self) -> str:
        """How reranking orders: as the checkpoint keeps as its best where it finds, too, else by the match logit."""
        name = self.chosen_reranker()
        return self._checkpoint(name).combine if name == (self.retriever_name or DEFAULT_RETRIEVER) else "itm"

    @property
    def can_embed(self) -> bool:
        """Whether the checkpoint that finds has an ITC head; its headers are read, no weights."""
        return "itc" in self._checkpoint(self.retriever_name or DEFAULT_RETRIEVER).heads

    def retriever(self, *, also_reranks: bool = False) -> Model:
        """The model that embeds queries.

        Args:
            also_reranks: Reranking follows, so that a checkpoint that does both is loaded for both.

        Raises:
            MissingHead: It has no ITC head.
        """
        if self._opened.retriever is None:
            name = self.retriever_name or DEFAULT_RETRIEVER
            if also_reranks and self.chosen_reranker() == name:
                self._opened.retriever = self._opened.reranker = self._load(name, {"itc", "itm"})
            else:
                self._opened.retriever = self._load(name, {"itc"})
        return self._opened.retriever

    def reranker(self) -> Model:
        """The model that reads images with texts.

        Raises:
            MissingHead: It has no ITM head.
        """
        if self._opened.reranker is None:
            self._opened.retriever = None  # its memory is worth more than a second query
            self._opened.reranker = self._load(self.chosen_reranker(), {"itm"}, ("text", "vision", "cross"))
        if self.bridges is not None:
            self._opened.reranker.use_bridge_cache(self.bridges)
        return self._opened.reranker

    def mask_filler(self) -> Model:
        """The model that fills masks: the checkpoint that was named, else the one that also reranks.

        Raises:
            MissingHead: It has no MLM head.
        """
        return self._load(self.retriever_name or DEFAULT_RERANKER, {"mlm"})

    def _checkpoint(self, name: str) -> Checkpoint:
        """The opened checkpoint: its headers are read, its weights only when work needs them."""
        from bt_cli.checkpoints.checkpoint import Checkpoint

        if name not in self._opened.checkpoints:
            self._opened.checkpoints[name] = Checkpoint.open(name, progress=self.progress)
        return self._opened.checkpoints[name]

    def _load(self, name: str, heads: set[str], towers: Collection[str] | None = None) -> Model:
        """Open for work; `towers` are read now, so that what comes after is work alone and can be timed as such."""
        from bt_cli.inference.model import load

        return load(
            self._checkpoint(name),
            device=self.device,
            dtype=self.dtype,
            heads=heads,
            towers=towers,
            threads=self.threads,
        )


@dataclass
class _Opened:
    """What has been opened so far."""

    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    retriever: Model | None = None
    reranker: Model | None = None
