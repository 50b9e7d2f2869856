"""Help in words: no type of Python, no range of mathematics."""

from __future__ import annotations

import re

import pytest

from bt_cli.arguments.help_words import range_in_words
from bt_cli.commands.app import COMMANDS

WITHIN = {"encode": ("images", "captions", "pairs"), "models": ("list", "info", "download", "convert")}
EVERY = [(name, inner) for name in COMMANDS for inner in WITHIN.get(name, ("",))]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_help_speaks_python(bt, words: tuple[str, str]) -> None:
    ran = bt(*filter(None, words), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert re.findall(r"<(?:int|float|str|path|list)\b[^>]*>|x>=|<=x|x<=", ran.out) == []


def test_ranges() -> None:
    assert range_in_words(1, None) == "1 or more"
    assert range_in_words(0.1, None) == "0.1 or more"
    assert range_in_words(None, 5) == "at most 5"
    assert range_in_words(0, 65535) == "0 to 65535"
    assert range_in_words(None, None) is None
