"""What is searched for: texts and images with weights, added up into one embedding."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bt_cli.errors import Misuse
from bt_cli.files.shown_path import shown_path

if TYPE_CHECKING:
    import numpy as np

WEIGHTED = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+):(.*)", re.DOTALL)
"""`2:text`. A text that itself begins with a number and a colon gets its weight too: `1:10:30 train`."""

CANCELLED = 1e-4
"""A sum this short has no direction of its own left, only rounding (each term has length 1 times its weight)."""


class QueryEncoder(Protocol):
    """What a query needs of a model: embeddings `(n, d) float32` with rows of norm 1."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray: ...

    def encode_images(self, images: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Term:
    """A text or an image (a path, or from Python a Pillow image) of a query, and its weight (negative: taken away)."""

    content: Any
    weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """Texts and images that are searched for together."""

    texts: tuple[Term, ...] = ()
    images: tuple[Term, ...] = ()

    @classmethod
    def build(
        cls,
        text: str | None = None,
        image: Any = None,
        *,
        images: Sequence[Term] = (),
        add: Sequence[str] = (),
        subtract: Sequence[str] = (),
        recognise: Callable[[str], Any] = lambda word: None,
    ) -> Query:
        """A query from a command's words: `text` and `image` weigh 1, the others may carry a weight (`2:text`).

        Args:
            text: The main text.
            image: The main image: a path, or what encoding takes for one.
            images: More of them.
            add: Words that are added.
            subtract: Words that are taken away.
            recognise: The image that a word stands for, or None where it is a text.

        Raises:
            Misuse: Nothing to search for, an empty text, or a weight of 0.
        """
        words = [] if text is None else [(text, "the query", 1.0)]
        words += [(item, "--add", 1.0) for item in add]
        words += [(item, "--subtract", -1.0) for item in subtract]
        texts: list[Term] = []
        seen = [] if image is None else [Term(image)]
        seen += images
        for word, name, sign in words:
            found = recognise(word)
            if found is not None:
                seen.append(Term(found, sign))
                continue
            term = Term(validate_text(word, name)) if name == "the query" else parse_weighted(word, name)
            # `2:photo.jpg` is an image that weighs 2; a weight is no part of the main text.
            found = None if term.content == word.strip() else recognise(term.content)
            (texts if found is None else seen).append(
                Term(term.content if found is None else found, sign * term.weight)
            )
        if not texts and not seen:
            raise Misuse("nothing to search for: give a query text, --image FILE or --add TEXT")
        return cls(tuple(texts), tuple(seen))

    def embedding(self, encoder: QueryEncoder) -> np.ndarray:
        """The weighted sum of the terms' embeddings, of norm 1: `(d,) float32`.

        Raises:
            Misuse: The terms cancel one another out.
        """
        import numpy as np

        heaviest = max(abs(term.weight) for term in self.texts + self.images)
        parts = []
        for terms, encode in ((self.texts, encoder.encode_texts), (self.images, encoder.encode_images)):
            if terms:
                # Only the weights' proportions matter; beside the heaviest, none leaves float32's range.
                weights = np.array([term.weight / heaviest for term in terms])
                parts.append(weights @ np.asarray(encode([term.content for term in terms]), dtype=np.float64))
        total: np.ndarray = np.sum(parts, axis=0)
        length = np.linalg.norm(total)
        if length < CANCELLED:
            raise Misuse("the terms of the query cancel one another out: nothing is left to search for")
        return (total / length).astype(np.float32)


def text_embeddings(texts: Sequence[str], encoder: QueryEncoder) -> np.ndarray:
    """The embedding of each text as a query of its own: `(n, d) float32`, rows of norm 1."""
    import numpy as np

    vectors = np.asarray(encoder.encode_texts(texts), dtype=np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def image_term(item: str, read: Callable[[str], Any]) -> Term:
    """The image that `--image` names: `photo.jpg`, or `2:photo.jpg` where no file is called so.

    Raises:
        Misuse: The weight is 0 or too large a number.
    """
    if WEIGHTED.fullmatch(item) is None or os.path.exists(item):
        return Term(read(item))
    term = parse_weighted(item, "--image")
    return Term(read(term.content), term.weight)


def parse_weighted(item: str, option: str) -> Term:
    """Read `text` (weight 1) or `WEIGHT:text`.

    Raises:
        Misuse: No text, or a weight that is 0 or beyond float64's range.
    """
    found = WEIGHTED.fullmatch(item)
    if found is None:
        return Term(validate_text(item, option))
    weight = float(found[1])
    if weight == 0:
        raise Misuse(f"{option} {item!r} has weight 0; leave it out instead")
    if math.isinf(weight):
        raise Misuse(f"{option} {shown_path(item)}: the weight is too large a number")
    return Term(validate_text(found[2], option), weight)


def validate_text(text: str, name: str) -> str:
    """A text that someone typed, without the space around it; `name` is what the message calls it.

    Raises:
        Misuse: It is empty, or holds bytes that are no UTF-8.
    """
    if not text.strip():
        raise Misuse(f"{name} is empty: give it some words")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Misuse(f"{name} is not UTF-8 text: {shown_path(text)}")
    return text.strip()
