"""Which checkpoint does what, where the user did not say.

The published ITC checkpoint has no ITM head, so finding and reranking take two checkpoints; a checkpoint with both
heads does both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

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
