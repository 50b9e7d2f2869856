"""Images and texts compared pair by pair: match score, and cosine where the checkpoint has embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_cli.errors import BtError, Misuse, UnreadableImage
from bt_cli.files.shown_path import shown_path
from bt_cli.search.candidates import seven_digits
from bt_cli.search.rerank import match_probability, none_can_be_read
from bt_cli.sources.member import split_path

if TYPE_CHECKING:
    from bt_cli.captions.captions import CaptionSet
    from bt_cli.inference.model import Model


@dataclass(frozen=True)
class Pair:
    """An image with a text: `itm_logit` the raw match logit, `itm_prob` in [0, 1], `itc` the cosine if there is one."""

    image: str
    text: str
    itm_logit: float
    itm_prob: float
    itc: float | None = None

    def record(self) -> dict[str, Any]:
        """The `--json` object; `itc` only where the checkpoint has that head."""
        record: dict[str, Any] = {"image": self.image, "text": self.text}
        record |= {"itm_logit": seven_digits(self.itm_logit), "itm_prob": seven_digits(self.itm_prob)}
        return record if self.itc is None else record | {"itc": seven_digits(self.itc)}


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs in the order in which they were given, and the images that could not be read, each with its reason."""

    pairs: list[Pair]
    skipped: list[str]
    images: int


def every_pair(images: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    """Each image with each text, image by image."""
    return [(image, text) for image in images for text in texts]


def score(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ScoredPairs:
    """Score (image, text) pairs; each image and each text is encoded once, however often it comes.

    Raises:
        MissingHead: The checkpoint has no ITM head.
        UnreadableImage: With `strict`, an image; without, every image.
    """
    import numpy as np

    images = list(dict.fromkeys(image for image, _ in pairs))
    texts = list(dict.fromkeys(text for _, text in pairs))
    row, column = ({item: place for place, item in enumerate(items)} for items in (images, texts))
    failures: dict[int, str] = {}

    def note(place: int, error: UnreadableImage) -> None:
        failures[place] = str(error)

    wanted = np.array([(row[image], column[text]) for image, text in pairs], dtype=np.int64).reshape(-1, 2)
    model.checkpoint.require({"itm"})
    logits, cosines = model.compare(images, texts, wanted, progress=progress, on_error=None if strict else note)
    if images and len(failures) == len(images):
        raise none_can_be_read(failures)
    assert logits is not None  # the ITM head is there
    match = logits[:, 1].astype(np.float64)
    probability = match_probability(logits)
    scored = []
    for place, (image, text) in enumerate(pairs):
        if row[image] in failures:
            continue
        if not np.isfinite(match[place]):
            raise BtError(f"the match score of {shown_path(image)} is no number; --dtype float32 may help")
        itc = None if cosines is None else float(cosines[place])
        scored.append(Pair(image, text, float(match[place]), float(probability[place]), itc))
    return ScoredPairs(scored, [failures[place] for place in sorted(failures)], len(images) - len(failures))


def pairs_of(captions: CaptionSet) -> list[tuple[str, str]]:
    """The (image, text) pairs of captions; an image that is not at its path is taken from beside the caption file, or
    from the folder of captions.

    Raises:
        Misuse: A caption without an image.
    """
    pairs = []
    for item in captions.items:
        if item.image is None:
            raise Misuse(f"{captions.place(item)}: names no image; give image and text in two columns")
        folders = ("", *captions.places)
        places = [os.path.join(folder, name) for name in (item.image, item.image.strip()) for folder in folders]
        found = (place for place in places if os.path.exists(place) or split_path(place) is not None)
        pairs.append((next(found, item.image), item.text))
    return pairs


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
