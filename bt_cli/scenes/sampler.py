"""Endless batches of drawn scenes with captions, for training and for measuring."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bt_cli.errors import BadConfig
from bt_cli.scenes.drawing import draw
from bt_cli.scenes.layout import EXERCISES, FAMILIES, compose
from bt_cli.scenes.mistakes import Negative, wrong_captions
from bt_cli.scenes.sprites import SpriteSheet
from bt_cli.scenes.things import SPLITS, THING
from bt_cli.scenes.wording import SceneCaption, Span, Wording, put_into_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bt_cli.scenes.scene import Meaning, Scene

_INDEX = {name: index for index, name in enumerate(THING)}


@dataclass
class SceneBatch:
    """Pictures, their captions, and wrong captions made for each."""

    pixels: np.ndarray  # (n, size, size, 3) uint8 RGB
    captions: list[str]
    negatives: list[list[Negative]]
    spans: list[tuple[Span, ...]]
    groups: np.ndarray  # (n,) int64, equal where the captions mean the same
    scenes: list[Scene] = field(repr=False)
    meanings: list[Meaning] = field(repr=False)

    def __len__(self) -> int:
        return len(self.captions)

    def truth(self) -> np.ndarray:
        """(n, n) bool: [i, j] tells whether caption j is true of picture i. The diagonal is True."""
        return truth_of(self.scenes, self.meanings)

    def negative(self, index: int, rng: random.Random, kinds: Mapping[str, float] | None = None) -> Negative:
        """One of the wrong captions of picture `index`: a kind by weight among those it has, then one of that kind.

        Without `kinds`, or where none of them applies to this picture, any of its wrong captions.
        """
        found = self.negatives[index]
        present = [kind for kind in dict.fromkeys(n.kind for n in found) if kinds and kinds.get(kind, 0) > 0]
        if not kinds or not present:
            return rng.choice(found)
        kind = rng.choices(present, [kinds[k] for k in present])[0]
        return rng.choice([n for n in found if n.kind == kind])


def truth_of(scenes: list[Scene], meanings: list[Meaning]) -> np.ndarray:
    """(len(scenes), len(meanings)) bool: whether each meaning is true of each scene."""
    shown = np.zeros((len(scenes), len(THING)), dtype=np.float32)
    named = np.zeros((len(meanings), len(THING)), dtype=np.float32)
    for row, scene in zip(shown, scenes, strict=True):
        row[[_INDEX[placed.thing] for placed in scene.objects]] = 1
    for row, meaning in zip(named, meanings, strict=True):
        row[[_INDEX[mention.thing] for mention in meaning.mentions]] = 1
    # Only where every named thing is shown is there anything to look into.
    truth = (1 - shown) @ named.T == 0
    for i, j in np.argwhere(truth):
        truth[i, j] = meanings[j].holds(scenes[i])
    return truth


class SceneSampler:
    """Draws batch after batch; each is a pure function of the arguments, the step and its length.

    `mix` weights the families of scenes (layout.FAMILIES, EXERCISES), e.g. ``{"relation": 3}``. `colour` is the share
    of things drawn in a named colour, `background` the share of captions that name the background, `synonyms` the
    share of names replaced with a synonym, `phrases` the share of captions with an opening such as "a picture of",
    and `jitter` varies the light and adds faint noise, as cameras and JPEG do.
    """

    def __init__(
        self,
        size: int = 96,
        seed: int = 0,
        split: str = "train",
        mix: Mapping[str, float] | None = None,
        *,
        sheet: SpriteSheet | None = None,
        colour: float = 0.35,
        background: float = 0.25,
        synonyms: float = 0.12,
        phrases: float = 0.2,
        jitter: bool = True,
    ) -> None:
        mix = checked_mix(dict.fromkeys(FAMILIES, 1.0) if mix is None else mix)
        check_split(split)
        for name, share in {
            "colour": colour,
            "background": background,
            "synonyms": synonyms,
            "phrases": phrases,
        }.items():
            if not 0 <= share <= 1:
                raise BadConfig(f"{name} is a share from 0 to 1, not {share}")
        self.size = size
        self.seed = seed
        self.split = split
        self.mix = mix
        self.sheet = sheet if sheet is not None else SpriteSheet.load()
        self.step = 0
        self._colour, self._background = colour, background
        self._synonyms, self._phrases = synonyms, phrases
        self._grain = _grain(size) if jitter else None

    def batch(self, n: int, step: int | None = None) -> SceneBatch:
        """`n` pictures with captions: those of `step`, or of the next step (`self.step`, which then advances)."""
        if step is None:
            step = self.step
            self.step += 1
        rng = random.Random(f"{self.seed}/{self.split}/{step}")
        pixels = np.empty((n, self.size, self.size, 3), dtype=np.uint8)
        captions, negatives, spans, scenes, meanings = [], [], [], [], []
        for picture, family in zip(pixels, rng.choices(list(self.mix), list(self.mix.values()), k=n), strict=True):
            scene, meaning, caption, wrong = self._example(family, rng)
            draw(scene, self.sheet, self.size, picture)
            if self._grain is not None:
                _jitter(picture, self._grain, rng)
            captions.append(caption.text)
            negatives.append(wrong)
            spans.append(caption.spans)
            scenes.append(scene)
            meanings.append(meaning)
        groups = np.array([group_of(meaning) for meaning in meanings], dtype=np.int64)
        return SceneBatch(pixels, captions, negatives, spans, groups, scenes, meanings)

    def _example(self, family: str, rng: random.Random) -> tuple[Scene, Meaning, SceneCaption, list[Negative]]:
        scene, meaning = compose(family, rng, split=self.split, colour=self._colour, background=self._background)
        wording = Wording.choose(rng, synonyms=self._synonyms, phrases=self._phrases)
        wrong = wrong_captions(scene, meaning, wording, self.split, rng)
        return scene, meaning, put_into_words(meaning, wording), wrong


def checked_mix(mix: Mapping[str, float]) -> dict[str, float]:
    """The weights of families, or BadConfig where they make no mix."""
    unknown = sorted(set(mix) - set(FAMILIES + EXERCISES))
    if unknown:
        raise BadConfig(f"no family of scenes {unknown[0]!r}; there are {', '.join(FAMILIES + EXERCISES)}")
    if not mix or min(mix.values()) < 0 or sum(mix.values()) <= 0:
        raise BadConfig(f"the mix of scenes needs weights of 0 and more, not all 0: {dict(mix)}")
    return dict(mix)


def check_split(split: str) -> None:
    """BadConfig for a split that does not exist."""
    if split not in SPLITS:
        raise BadConfig(f"no split {split!r}; there are {', '.join(SPLITS)}")


def group_of(meaning: Meaning) -> int:
    """A number below 2^63 that is the same for equal meanings, on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(meaning.key()).encode(), digest_size=8).digest(), "big") >> 1


def vocabulary_captions(n: int, seed: int = 0, split: str = "train") -> list[str]:
    """Captions of all families with every name, colour and background in them, to learn a vocabulary from."""
    rng = random.Random(f"{seed}/{split}/words")
    texts = []
    for index in range(n):
        scene, meaning = compose(FAMILIES[index % len(FAMILIES)], rng, split=split, colour=0.5, background=0.5)
        del scene
        texts.append(put_into_words(meaning, Wording.choose(rng, synonyms=0.4, phrases=0.3)).text)
    return texts


def _grain(size: int) -> np.ndarray:
    """(64, size, size, 3) int16 of faint noise, drawn once and shared by all pictures."""
    return np.rint(np.random.default_rng(size).normal(scale=2.5, size=(64, size, size, 3))).astype(np.int16)


def _jitter(picture: np.ndarray, grain: np.ndarray, rng: random.Random) -> None:
    """Other light and faint noise, in place. The light is a gain in 1/128, at most 255 * 142 < 2^16."""
    gain, offset = np.uint16(rng.randint(114, 142)), np.int16(rng.randint(-12, 12))
    lit = ((picture * gain) >> np.uint16(7)).view(np.int16)
    lit += grain[rng.randrange(len(grain))]
    lit += offset
    np.clip(lit, 0, 255, out=lit)
    picture[:] = lit
