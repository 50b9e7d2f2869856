"""Sentences with their masks filled."""

from __future__ import annotations

import pytest

from bt_cli.inference.masked_words import fill


@pytest.mark.parametrize(
    ("text", "tokens", "filled"),
    [
        ("a <mask> looking", [" cat"], "a cat looking"),
        ("a <mask> looking", ["cat"], "a cat looking"),
        ("a<mask> looking", [" cat"], "a cat looking"),
        ("snow<mask>", ["man"], "snowman"),
        ("<mask> cat", [" A"], "A cat"),
        ("a cat<mask>", ["."], "a cat."),
        ("<mask><mask>", [" a", " cat"], "a cat"),
        ("a <mask> and a <mask>", [" cat"], "a cat and a <mask>"),
        ("no mask", [], "no mask"),
        ("tab\t<mask>", [" x"], "tab\tx"),
    ],
)
def test_fill(text: str, tokens: list[str], filled: str) -> None:
    assert fill(text, tokens) == filled
