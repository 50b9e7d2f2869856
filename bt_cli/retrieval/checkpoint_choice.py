"""Which checkpoint does what, where the user did not say.

The published ITC checkpoint has no ITM head, so finding and reranking take two checkpoints; a checkpoint with both
heads does both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from bt_cli.errors import MissingHead

DEFAULT_RETRIEVER = "BridgeTower/bridgetower-large-itm-mlm-itc"
DEFAULT_RERANKER = "BridgeTower/bridgetower-large-itm-mlm"

WORK = {
    "itc": "embeddings, which search and index need",
    "itm": "match scores, which rerank and score need",
    "mlm": "words for masks, which fill-mask needs",
}
WITH_HEAD = {"itc": DEFAULT_RETRIEVER, "itm": DEFAULT_RERANKER, "mlm": DEFAULT_RERANKER}


def choose_reranker(reranker: str | None, retriever: str | None, heads_of: Callable[[str], Collection[str]]) -> str:
    """The name of the checkpoint that reranks.

    The one that was named; else the retriever if it has an ITM head; else the published ITM checkpoint.

    Args:
        reranker: What the user asked for, or None.
        retriever: The checkpoint that finds the candidates, or None where nothing was found by one.
        heads_of: Tells a checkpoint's heads; asked only where the answer depends on it.

    Raises:
        MissingHead: The reranker that was named has no ITM head.
    """
    if reranker is not None:
        require_head(reranker, "itm", heads_of(reranker), option="--reranker")
        return reranker
    if retriever is not None and retriever != DEFAULT_RETRIEVER and "itm" in heads_of(retriever):
        return retriever
    return DEFAULT_RERANKER


def require_head(name: str, head: str, heads: Collection[str], *, option: str = "--model") -> None:
    """Refuse a checkpoint that lacks the head that the work needs.

    Raises:
        MissingHead: Naming the checkpoint, what it has, and an option with a checkpoint that would do.
    """
    if head in heads:
        return
    has = ", ".join(sorted(heads)) or "none"
    raise MissingHead(
        f"{name} has no {head} head for {WORK[head]} (it has: {has}); try {option} {WITH_HEAD[head]} or {option} tiny"
    )
