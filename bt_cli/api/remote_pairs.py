"""Pairs of images and texts that a server reads, in requests of bounded size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bt_cli.api.client import Client, hit_of, model_of, require_all
from bt_cli.api.sent_image import data_url
from bt_cli.errors import UnreadableImage
from bt_cli.search.candidates import Candidate, Hit
from bt_cli.search.rerank import none_can_be_read
from bt_cli.search.scoring import Pair, ScoredPairs

if TYPE_CHECKING:
    import numpy as np

    from bt_cli.search.two_stage import Answer

IMAGES, PAIRS, CHARACTERS = 64, 200, 16 << 20
"""Images, pairs, and characters of images of one request, at most: less than what a server takes of itself."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Sent:
    """An image of a request, and the places of the pairs (or candidates) that are its own."""

    image: dict[str, Any]
    places: list[int]


class RemotePairs:
    """A server's ITM head: what `PairReader` asks for, with files sent from here.

    Attributes:
        client: Who asks.
        engine: What computed the answers; None before the first.
        reading: Seconds that it took, the way there and back left out.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.engine: Any = None
        self.reading = 0.0

    def score(
        self, pairs: Sequence[tuple[str, str]], *, strict: bool = False, progress: Progress | None = None
    ) -> ScoredPairs:
        """As `scoring.score`."""
        records, failures = self._read(pairs, strict, progress)
        images = list(dict.fromkeys(image for image, _ in pairs))
        if images and len(failures) == len(images):
            raise none_can_be_read(dict(enumerate(failures.values())))
        scored = [
            Pair(image, text, one["itm_logit"], one["itm_prob"], one.get("itc"))
            for (image, text), one in zip(pairs, records, strict=True)
            if one is not None
        ]
        skipped = [failures[image] for image in images if image in failures]
        return ScoredPairs(scored, skipped, len(images) - len(failures))

    def itm(
        self,
        images: Sequence[str],
        texts: Sequence[str],
        pairs: np.ndarray | None = None,
        *,
        progress: Progress | None = None,
        on_error: Callable[[int, UnreadableImage], None] | None = None,
    ) -> np.ndarray:
        """As `PairReader.itm`: the two logits are told from that of a match and its probability."""
        import numpy as np

        rows = np.indices((len(images), len(texts))).reshape(2, -1).T if pairs is None else pairs
        wanted = [(images[row], texts[column]) for row, column in rows.tolist()]
        records, failures = self._read(wanted, on_error is None, progress)
        for row, image in enumerate(images):
            if image in failures and on_error is not None:
                on_error(row, UnreadableImage(failures[image]))
        missing = (np.nan, np.nan)
        found = [missing if one is None else (one["itm_logit"], one["itm_prob"]) for one in records]
        logit, chance = np.array(found, dtype=np.float64).reshape(-1, 2).T
        with np.errstate(divide="ignore"):
            other = logit - (np.log(chance) - np.log1p(-chance))
        logits = np.stack([other, logit], axis=-1).astype(np.float32)
        return logits if pairs is not None else logits.reshape(len(images), len(texts), 2)

    def rerank(self, text: str, candidates: Sequence[Candidate], k: int | None, *, strict: bool = False) -> Answer:
        """As `rerank_images`: files that are here are sent, others have to be the server's own by their id."""
        from bt_cli.search.two_stage import Answer

        skipped: list[str] = []
        found: list[tuple[int, Hit]] = []
        for number, portion in enumerate(_portions(_candidates(candidates, skipped))):
            got = self._ask("/api/rerank", {"q": text, "images": [sent.image for sent in portion]}, "hits")
            skipped += got["skipped"]
            found += [(number, hit_of(record, None)) for record in got["hits"]]
            require_all(skipped, strict)
        if candidates and not found:
            raise none_can_be_read(dict(enumerate(skipped)))
        # As order_by_match: ties by id, then as they were given.
        found.sort(key=lambda one: (-one[1].score, one[1].id is None, one[1].id or 0, one[0], one[1].rank))
        hits = [hit.at(rank) for rank, (_, hit) in enumerate(found, 1)]
        return Answer(hits[:k], len(candidates), len(hits), self.engine, skipped, self.reading)

    def _read(
        self, pairs: Sequence[tuple[str, str]], strict: bool, progress: Progress | None
    ) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
        """The record of each pair, None for those of images that can't be read; and these, with their reasons."""
        records: list[dict[str, Any] | None] = [None] * len(pairs)
        failures: dict[str, str] = {}
        done = 0
        for portion in _portions(_images(pairs, failures, strict)):
            places = [place for sent in portion for place in sent.places]
            texts = {text: column for column, text in enumerate(dict.fromkeys(pairs[place][1] for place in places))}
            numbers = [[row, texts[pairs[place][1]]] for row, sent in enumerate(portion) for place in sent.places]
            asked = {"images": [sent.image for sent in portion], "texts": list(texts), "pairs": numbers}
            got = self._ask("/api/score", asked, "pairs")
            read = {record["image"] for record in got["pairs"]}
            unread = [str(sent.image["name"]) for sent in portion if sent.image["name"] not in read]
            failures |= zip(unread, got["skipped"], strict=True)
            require_all(got["skipped"], strict)
            kept = [place for sent in portion if sent.image["name"] in read for place in sent.places]
            for place, record in zip(kept, got["pairs"], strict=True):
                records[place] = record
            done += len(places)
            if progress is not None:
                progress(done, len(pairs))
        require_all(list(failures.values()), strict)
        return records, failures

    def _ask(self, path: str, asked: dict[str, Any], results: str) -> dict[str, Any]:
        """The server's answer; where it can read none of the images, one without results."""
        try:
            got = self.client.post(path, asked)
        except UnreadableImage as error:
            if len(error.reasons) != len(asked["images"]):
                raise
            return {results: [], "skipped": list(error.reasons)}
        self.engine = model_of(got)
        self.reading += got["reading"]
        return got


def _images(pairs: Sequence[tuple[str, str]], failures: dict[str, str], strict: bool) -> Iterator[_Sent]:
    """The images of pairs, each with its places; one with very many of them comes several times."""
    places: dict[str, list[int]] = {}
    for place, (image, _) in enumerate(pairs):
        places.setdefault(image, []).append(place)
    for image, own in places.items():
        try:
            sent = {"name": image, "data": data_url(image)}
        except UnreadableImage as error:
            failures[image] = str(error)
            if strict:
                return  # what comes before it is read first: it may be worse
            continue
        for first in range(0, len(own), PAIRS):
            yield _Sent(sent, own[first : first + PAIRS])


def _candidates(candidates: Sequence[Candidate], skipped: list[str]) -> Iterator[_Sent]:
    for place, candidate in enumerate(candidates):
        path = candidate.path or ""
        if candidate.id is not None and not os.path.exists(path):
            yield _Sent({"id": candidate.id}, [place])
            continue
        try:
            sent: dict[str, Any] = {"name": path, "data": data_url(path)}
        except UnreadableImage as error:
            skipped.append(str(error))
            continue
        if candidate.id is not None:
            sent |= {"id": candidate.id} | ({} if candidate.itc is None else {"itc": candidate.itc})
        yield _Sent(sent, [place])


def _portions(images: Iterable[_Sent]) -> Iterator[list[_Sent]]:
    """As many images in their order as fit into a request; one that is too large alone is the server's to refuse."""
    portion: list[_Sent] = []
    pairs = characters = 0
    for sent in images:
        own, size = len(sent.places), len(sent.image.get("data", ""))
        if portion and (len(portion) >= IMAGES or pairs + own > PAIRS or characters + size > CHARACTERS):
            yield portion
            portion, pairs, characters = [], 0, 0
        portion.append(sent)
        pairs, characters = pairs + own, characters + size
    if portion:
        yield portion
