"""Filled masks for people: the sentence, then the words for each mask."""

from __future__ import annotations

from collections.abc import Sequence

from bt_cli.display.data_lines import write_line
from bt_cli.display.hit_table import BAR, percent
from bt_cli.display.safe_text import printable
from bt_cli.display.table import Column, Rows, show

WORD = Column("word", style="bold")
PROBABILITY = Column("prob", right=True)


def show_words(sentence: str, masks: Sequence[Sequence[tuple[str, int, float]]]) -> None:
    """Print the sentence filled with the best words, and a row for each (token, id, probability) of each mask."""
    write_line(printable(sentence))
    several = len(masks) > 1
    rows = Rows([*([Column("mask", right=True, style="dim")] if several else []), PROBABILITY, BAR, WORD])
    for number, candidates in enumerate(masks):
        for token, _, probability in candidates:
            place = [number] if several else []
            rows.add(*place, percent(probability), probability, whole_word(token))
    show(rows)


def whole_word(token: str) -> str:
    """A token as a word: without the space that begins one, and with an ellipsis before what only goes on with one."""
    word = token.strip()
    if not word:
        return repr(token)
    return word if token[:1].isspace() or not word[0].isalnum() else f"…{word}"
