"""Exact stand-ins for a model and an index: what they answer can be worked out by hand.

A fake picture is a text file that says what is to be seen. Its embedding counts words, so it knows what is there and
not how it stands to one another; its match logit counts word pairs as well, so "cat left of dog" and its mirror differ.
That is the division of labour between the real ITC and ITM heads.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from bt_cli.errors import MissingHead, NoMask, UnreadableImage
from bt_cli.files.photo_facts import PhotoFacts

DIMENSION = 64


def embed(text: str) -> np.ndarray:
    """The sum of one direction per word, of norm 1."""
    total = np.zeros(DIMENSION, np.float32)
    for word in text.split():
        total += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSION, np.float32)
    return total / np.linalg.norm(total)


def match(seen: str, said: str) -> tuple[float, float]:
    """The two ITM logits: 0, and the share of the text's words and word pairs that the picture has, from -4 to 4."""
    words, pairs = said.split(), list(pairwise(said.split()))
    seen_words = seen.split()
    seen_pairs = set(pairwise(seen_words))
    found = sum(word in seen_words for word in words) + sum(pair in seen_pairs for pair in pairs)
    return 0.0, 8.0 * found / (len(words) + len(pairs)) - 4.0


def read(path: str) -> str:
    """What a fake picture shows."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UnreadableImage(f"{path}: {error.strerror}") from None
    if text.startswith("broken"):
        raise UnreadableImage(f"{path}: not an image")
    return text


class FakeModel:
    """A model over fake pictures; `calls` remembers what was asked of it."""

    device = "cpu"
    precision = "float32"
    engine = SimpleNamespace(device="cpu", precision="float32")
    dimension = DIMENSION

    def __init__(self, checkpoint: FakeCheckpoint | None = None) -> None:
        self.checkpoint = checkpoint or FakeCheckpoint("fake", {"itc", "itm", "mlm"})
        self.image_processor = SimpleNamespace(fingerprint=lambda: "pixels")
        self.calls: list[tuple] = []

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(("encode_texts", *texts))
        return np.stack([embed(text) for text in texts])

    def encode_images(self, images: Sequence[str]) -> np.ndarray:
        self.calls.append(("encode_images", *images))
        return np.stack([embed(read(image)) for image in images])

    def itm(
        self,
        images: Sequence[str],
        texts: Sequence[str],
        pairs: np.ndarray | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        on_error: Callable[[int, UnreadableImage], None] | None = None,
    ) -> np.ndarray:
        self.calls.append(("itm", len(images), len(texts), None if pairs is None else len(pairs)))
        seen: list[str | None] = []
        for place, image in enumerate(images):
            try:
                seen.append(read(image))
            except UnreadableImage as error:
                if on_error is None:
                    raise
                on_error(place, error)
                seen.append(None)

        def logits(image: int, text: int) -> tuple[float, float]:
            return (np.nan, np.nan) if seen[image] is None else match(seen[image], texts[text])

        if progress is not None:
            progress(len(images) * len(texts), len(images) * len(texts))
        if pairs is not None:
            return np.array([logits(*pair) for pair in pairs.tolist()], np.float32).reshape(-1, 2)
        every = [[logits(image, text) for text in range(len(texts))] for image in range(len(images))]
        return np.array(every, np.float32).reshape(len(images), len(texts), 2)

    def use_bridge_cache(self, folder: Path) -> None:
        self.calls.append(("use_bridge_cache", str(folder)))

    def compare(self, images, texts, pairs=None, *, progress=None, on_error=None):
        logits = self.itm(images, texts, pairs, progress=progress, on_error=on_error)
        if "itc" not in self.checkpoint.heads:
            return logits, None
        left = [
            embed(read(image)) if np.isfinite(logits[pairs[:, 0] == row]).all() else np.full(DIMENSION, np.nan)
            for row, image in enumerate(images)
        ]
        right = np.stack([embed(text) for text in texts])
        return logits, np.einsum("pd,pd->p", np.stack(left)[pairs[:, 0]], right[pairs[:, 1]])

    def fill_mask(self, image: str, text: str, k: int = 5) -> list[list[tuple[str, int, float]]]:
        """The picture's words in their order, the n-th with probability 1/2^n."""
        if "<mask>" not in text:
            raise NoMask("the text has no <mask>")
        words = read(image).split()[:k]
        found = [(f" {word}", 100 + place, 0.5 ** (place + 1)) for place, word in enumerate(words)]
        return [found for _ in range(text.count("<mask>"))]


class FakeIndex:
    """Exact search that breaks ties the wrong way round (largest id first), as an index is free to do."""

    def __init__(self, vectors: np.ndarray, paths: Sequence[str] | None = None) -> None:
        self.vectors = np.asarray(vectors, np.float32)
        self._paths = [f"{row}.jpg" for row in range(len(self.vectors))] if paths is None else list(paths)
        self.depths: list[int] = []

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, vectors: np.ndarray, k: int, *, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        self.depths.append(k)
        ids = np.arange(len(self)) if ids is None else np.asarray(ids)
        # In float64, so that a score depends on nothing else in the call, as those of the real index.
        scores = np.asarray(vectors, np.float64) @ np.asarray(self.vectors[ids], np.float64).T
        scores = scores.astype(np.float32)
        order = np.stack([np.lexsort((-ids, -row)) for row in scores])[:, :k]
        return np.take_along_axis(scores, order, 1).astype(np.float32), ids[order]

    def paths(self, ids: np.ndarray) -> list[str]:
        return [self._paths[id] for id in ids.tolist()]

    @property
    def kept(self) -> SimpleNamespace:
        """Nothing was carried along."""
        return SimpleNamespace(names=[], of=lambda ids: [{} for _ in ids])

    @property
    def photos(self) -> SimpleNamespace:
        return SimpleNamespace(facts=lambda ids: [PhotoFacts()] * len(ids))

    def matching(self, glob: str) -> np.ndarray:
        import fnmatch

        return np.array([row for row, path in enumerate(self._paths) if fnmatch.fnmatchcase(path, glob)], np.int64)


class FakeCaptions(FakeIndex):
    """An index of captions over the images of a :class:`FakeIndex`."""

    def __init__(self, texts: Sequence[str], owners: Sequence[int]) -> None:
        super().__init__(np.stack([embed(text) for text in texts]))
        self._texts, self._owners = list(texts), np.array(owners, np.int64)

    def texts(self, ids: np.ndarray) -> list[str]:
        return [self._texts[id] for id in ids.tolist()]

    def image_ids(self, ids: np.ndarray) -> np.ndarray:
        return self._owners[ids]


class FakeCheckpoint:
    """A checkpoint that has a name, heads and a fingerprint, and no tensors."""

    def __init__(self, name: str, heads: set[str]) -> None:
        self.name, self.heads, self.fingerprint = name, heads, f"fingerprint of {name}"
        self.combine = "itm"

    def require(self, heads: set[str]) -> None:
        for head in sorted(heads - self.heads):
            raise MissingHead(f"{self.name} has no {head.upper()} head")


class FakeFolder(FakeIndex):
    """An index folder over fake pictures, with or without captions."""

    def __init__(self, identity, paths: Sequence[str], captions: FakeCaptions | None = None) -> None:
        super().__init__(np.stack([embed(Path(path).read_text()) for path in paths]), paths)
        self.identity, self.captions, self.folder = identity, captions, Path("index")

    def __enter__(self) -> FakeFolder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def require(self, identity) -> None:
        self.identity.require(identity, "index fake")
