"""Which checkpoint does what."""

from __future__ import annotations

import pytest

from bt_cli.search.models import DEFAULT_RERANKER, DEFAULT_RETRIEVER, choose_reranker

HEADS = {"both": {"itc", "itm"}, "finder": {"itc"}, "reader": {"itm", "mlm"}}


@pytest.mark.parametrize(
    ("reranker", "retriever", "chosen"),
    [
        (None, None, DEFAULT_RERANKER),
        (None, "both", "both"),
        (None, "finder", DEFAULT_RERANKER),
        ("reader", "finder", "reader"),
        ("reader", "both", "reader"),
        ("both", None, "both"),
    ],
)
def test_the_reranker(reranker: str | None, retriever: str | None, chosen: str) -> None:
    assert choose_reranker(reranker, retriever, HEADS.__getitem__) == chosen


def test_the_published_retriever_is_not_opened_to_learn_what_is_known() -> None:
    def never(name: str) -> set[str]:
        raise AssertionError(name)

    assert choose_reranker(None, DEFAULT_RETRIEVER, never) == DEFAULT_RERANKER
