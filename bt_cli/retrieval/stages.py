"""The two checkpoints of a search, finder and reader, each loaded when it is needed; one load where one does both."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from bt_cli.retrieval.checkpoint_choice import DEFAULT_RETRIEVER, choose_reranker

if TYPE_CHECKING:
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.inference.model import Model
    from bt_cli.store.index_folder import IndexFolder

BRIDGES = "bridges"
"""Where an index folder keeps the bridge features that `bt index --bridge-cache` made."""


class Stages:
    """Loads what a command needs of the retriever (ITC) and the reranker (ITM), and no more of either."""

    def __init__(
        self,
        retriever: str | None,
        reranker: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Remembers the names; nothing is opened yet.

        Args:
            retriever: The checkpoint that finds, or None where the user named none.
            reranker: The checkpoint that the user named for reranking, or None.
            device: As :func:`bt_cli.load` takes it.
            dtype: Likewise.
            progress: Called with bytes done and bytes in all where a checkpoint has to be downloaded.
        """
        self.retriever = retriever
        self.bridges: Path | None = None
        self._asked_reranker = reranker
        self._device = device
        self._dtype = dtype
        self._progress = progress
        self._checkpoints: dict[str, Checkpoint] = {}
        self._finder: Model | None = None
        self._reader: Model | None = None

    def at_index(self, folder: IndexFolder) -> None:
        """Work with an index: its checkpoint finds where the user named none; the features that it kept are used."""
        self.retriever = self.retriever or folder.identity.checkpoint
        kept = folder.folder / BRIDGES
        self.bridges = kept if kept.is_dir() else None

    def reranker(self) -> str:
        """The name of the checkpoint that reranks: see :func:`choose_reranker`."""
        return choose_reranker(self._asked_reranker, self.retriever, self._heads_of)

    def finder(self, *, also_reads: bool = False) -> Model:
        """The model that embeds queries.

        Args:
            also_reads: Reranking follows, so that a checkpoint that does both is loaded for both.

        Raises:
            MissingHead: It has no ITC head.
        """
        if self._finder is None:
            name = self.retriever or DEFAULT_RETRIEVER
            if also_reads and self.reranker() == name:
                self._finder = self._reader = self._load(name, {"itc", "itm"})
            else:
                self._finder = self._load(name, {"itc"})
        return self._finder

    def reader(self) -> Model:
        """The model that reads images with texts.

        Raises:
            MissingHead: It has no ITM head.
        """
        if self._reader is None:
            self._finder = None  # its memory is worth more than a second query
            self._reader = self._load(self.reranker(), {"itm"}, ("text", "vision", "cross"))
        if self.bridges is not None:
            self._reader.use_bridge_cache(self.bridges)
        return self._reader

    def _heads_of(self, name: str) -> Collection[str]:
        return self._checkpoint(name).heads

    def _checkpoint(self, name: str) -> Checkpoint:
        """The opened checkpoint: its headers are read, its weights only when work needs them."""
        from bt_cli.checkpoints.checkpoint import Checkpoint

        if name not in self._checkpoints:
            self._checkpoints[name] = Checkpoint.open(name, progress=self._progress)
        return self._checkpoints[name]

    def _load(self, name: str, heads: set[str], towers: Collection[str] | None = None) -> Model:
        """Open for work; `towers` are read now, so that what comes after is work alone and can be timed as such."""
        from bt_cli.inference.model import load

        return load(self._checkpoint(name), device=self._device, dtype=self._dtype, heads=heads, towers=towers)
