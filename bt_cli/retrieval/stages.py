"""The two checkpoints of a search, finder and reader, each loaded when it is needed; one load where one does both."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from bt_cli.retrieval.checkpoint_choice import DEFAULT_RETRIEVER, choose_reranker, require_head

if TYPE_CHECKING:
    from bt_cli.inference.model import Model


class Stages:
    """Loads what a command needs of the retriever (ITC) and the reranker (ITM), and no more of either."""

    def __init__(
        self, retriever: str | None, reranker: str | None, *, device: str = "auto", dtype: str = "auto"
    ) -> None:
        """Remembers the names; nothing is opened yet.

        Args:
            retriever: The checkpoint that finds, or None for the default where one is needed.
            reranker: The checkpoint that the user named for reranking, or None.
            device: As :func:`bt_cli.load` takes it.
            dtype: Likewise.
        """
        self.retriever = retriever
        self._asked_reranker = reranker
        self._device = device
        self._dtype = dtype
        self._heads: dict[str, Collection[str]] = {}
        self._finder: Model | None = None
        self._reader: Model | None = None

    def reranker(self) -> str:
        """The name of the checkpoint that reranks: see :func:`choose_reranker`."""
        return choose_reranker(self._asked_reranker, self.retriever, self._heads_of)

    def finder(self, towers: Collection[str], *, also_reads: bool = False) -> Model:
        """The model that embeds queries.

        Args:
            towers: "text", "vision" or both: what the query has to pass.
            also_reads: Reranking follows, so that a checkpoint that does both is loaded for both.

        Raises:
            MissingHead: It has no ITC head.
        """
        if self._finder is None:
            name = self.retriever or DEFAULT_RETRIEVER
            require_head(name, "itc", self._heads_of(name))
            if also_reads and self.reranker() == name:
                self._finder = self._reader = self._load(name, {"itc", "itm"}, None)
            else:
                self._finder = self._load(name, {"itc"}, set(towers))
        return self._finder

    def reader(self) -> Model:
        """The model that reads images with texts.

        Raises:
            MissingHead: It has no ITM head.
        """
        if self._reader is None:
            name = self.reranker()
            require_head(name, "itm", self._heads_of(name), option="--reranker")
            self._finder = None  # its memory is worth more than a second query
            self._reader = self._load(name, {"itm"}, None)
        return self._reader

    def _heads_of(self, name: str) -> Collection[str]:
        from bt_cli.checkpoints.checkpoint import Checkpoint

        if name not in self._heads:
            self._heads[name] = Checkpoint.open(name).heads
        return self._heads[name]

    def _load(self, name: str, heads: set[str], towers: set[str] | None) -> Model:
        from bt_cli.inference.model import load

        return load(name, device=self._device, dtype=self._dtype, heads=heads, towers=towers)
