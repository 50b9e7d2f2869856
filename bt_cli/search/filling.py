"""The words that fill the masks of a text, as commands and servers give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bt_cli.search.candidates import seven_digits


def word_records(
    image: str, text: str, masks: Sequence[Sequence[tuple[str, int, float]]]
) -> tuple[list[dict[str, Any]], str]:
    """The `--json` objects, one a candidate, and the sentence filled with the best words.

    Args:
        image: What the image is called.
        text: With its masks.
        masks: For each mask (token, id, probability), best first.
    """
    from bt_cli.inference.masked_words import fill

    best = [candidates[0][0] for candidates in masks]
    records = [
        {
            "image": image,
            "text": text,
            "mask": number,
            "token": token,
            "token_id": token_id,
            "prob": seven_digits(probability),
            "sentence": fill(text, [*best[:number], token, *best[number + 1 :]]),
        }
        for number, candidates in enumerate(masks)
        for token, token_id, probability in candidates
    ]
    return records, fill(text, best)
