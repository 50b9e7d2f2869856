"""Captions, words and file names in a form that is safe to show on one line of a terminal.

Shown raw, a line break, an escape sequence, a direction mark or a byte that is no UTF-8 would break a table, forge a
line of output or stop the program with a UnicodeEncodeError.
"""

from __future__ import annotations

from bt_cli.files.shown_path import shown_path

JOINERS = frozenset("\u200c\u200d")
"""Zero-width (non-)joiners are invisible but part of ordinary emoji, Persian and Hindi words, so they stay."""


def printable(text: str) -> str:
    r"""Return `text` with everything that is no visible character escaped: ``\n``, ``\xNN``, ``\uNNNN``."""
    if text.isprintable():
        return text
    return "".join(character if character in JOINERS else shown_path(character) for character in text)
