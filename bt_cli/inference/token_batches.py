"""Texts as batches of ids, those of like length together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bt_cli.preprocessing.tokenizer import TokenBatch

TOKENS_AT_ONCE = 1024
"""Tokens of a batch on a CPU, padding counted."""


class TextBatch(NamedTuple):
    """Some texts of many: their positions among them, ids (B, T) int64 and mask (B, T) int64, 0 where padded."""

    positions: list[int]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def batches(tokens: TokenBatch, limit: int = TOKENS_AT_ONCE) -> Iterator[TextBatch]:
    """`tokens` in batches of at most `limit` tokens (or one text), the shortest first, so that little is padding."""
    lengths = tokens.attention_mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and int(lengths[order[end]]) * (end + 1 - start) <= limit:
            end += 1
        rows = order[start:end]
        width = int(lengths[rows[-1]])
        yield TextBatch(rows.tolist(), tokens.input_ids[rows, :width], tokens.attention_mask[rows, :width])
        start = end
