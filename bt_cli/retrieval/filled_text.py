"""A text with words in the place of its `<mask>`s."""

from __future__ import annotations

from collections.abc import Sequence

MASK = "<mask>"


def fill(text: str, tokens: Sequence[str]) -> str:
    """Put one token in the place of each `<mask>`; masks without a token stay.

    A token of byte-level BPE carries the space before its word (` cat`), and `<mask>` swallows the one that was written
    there. What was written decides: one space where there was one or where the token begins a word, none at the
    beginning of the text.
    """
    pieces = text.split(MASK)
    filled = pieces[0]
    for place, piece in enumerate(pieces[1:]):
        if place < len(tokens):
            token = tokens[place]
            apart = token[:1].isspace() and filled != "" and not filled[-1].isspace()
            filled += (" " if apart else "") + token.strip()
        else:
            filled += MASK
        filled += piece
    return filled
