"""One remark on texts that are too long, however many blocks they are encoded in."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

from bt_cli.inference.truncation import one_warning, warn_of_truncation

TOKENIZER = SimpleNamespace(max_length=50)


def said(blocks: list[list[str]], *, together: bool) -> list[str]:
    def encode(block: list[str]) -> None:
        rows = [row for row, text in enumerate(block) if "long" in text]
        warn_of_truncation(block, SimpleNamespace(truncated=rows), TOKENIZER)  # type: ignore[arg-type]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if together:
            with one_warning():
                for block in blocks:
                    encode(block)
        else:
            for block in blocks:
                encode(block)
    return [str(each.message) for each in caught]


def test_one_remark_with_a_count() -> None:
    blocks = [[f"long {number}", "short", f"long {number}"] for number in range(3000)]
    assert said(blocks, together=True) == [
        "3,000 texts are longer than 50 tokens, 'long 0' first: their ends are not read"
    ]
    assert said(blocks[:1], together=True) == ["text 'long 0' is longer than 50 tokens: its end is not read"]
    assert said(blocks[:2], together=False) == [
        f"text 'long {number}' is longer than 50 tokens: its end is not read" for number in range(2)
    ]
    assert said([["short"]], together=True) == []
