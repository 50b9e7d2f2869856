"""Texts that are longer than the network reads: one remark on them, however many there are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bt_cli.preprocessing.tokenizer import TokenBatch, Tokenizer


@dataclass
class _Truncated:
    """The different texts that lost their end, in their order, and how many tokens were read."""

    texts: dict[str, None] = field(default_factory=dict)
    length: int = 0

    def warn(self, stacklevel: int) -> None:
        if not self.texts:
            return
        count, first = len(self.texts), beginning(next(iter(self.texts)))
        one = f"text {first} is longer than {self.length} tokens: its end is not read"
        several = f"{count:,} texts are longer than {self.length} tokens, {first} first: their ends are not read"
        warnings.warn(one if count == 1 else several, stacklevel=stacklevel + 1)


_gathering: ContextVar[_Truncated | None] = ContextVar("gathering", default=None)


def warn_of_truncation(texts: Sequence[str], tokens: TokenBatch, tokenizer: Tokenizer) -> None:
    """One warning for the texts that `tokens` holds only the beginning of; within `one_warning` counted for it."""
    if not tokens.truncated:
        return
    gathering = _gathering.get()
    found = _Truncated() if gathering is None else gathering
    found.length = tokenizer.max_length
    found.texts.update(dict.fromkeys(texts[row] for row in tokens.truncated))
    if gathering is None:
        found.warn(3)


@contextmanager
def one_warning() -> Iterator[None]:
    """For texts that are encoded block by block: one warning at the end, for all that are too long."""
    found = _Truncated()
    outer = _gathering.set(found)
    try:
        yield
    finally:
        _gathering.reset(outer)
        found.warn(1)


def beginning(text: str) -> str:
    """The text as a message quotes it: its first 40 characters."""
    return f"{text[:40]!r}..." if len(text) > 40 else repr(text)
