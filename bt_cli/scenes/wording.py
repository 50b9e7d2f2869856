"""A meaning becomes an English sentence, with the places of the words that carry it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from bt_cli.scenes.backgrounds import PLAIN
from bt_cli.scenes.scene import Meaning, Mention
from bt_cli.scenes.things import THING

COUNT_WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}
ROLES = ("object", "colour", "count", "relation", "background")

_OPENINGS = ("", "a picture of ", "a drawing of ", "there is ")
# The word in braces tells one relation from another.
_RELATIONS = {
    "left": ("to the {left} of", "{left} of"),
    "right": ("to the {right} of", "{right} of"),
    "above": ("{above}", "{over}"),
    "below": ("{below}", "{under}"),
    "between": ("{between}", "{between}"),
}
_PLACES = {
    "left": "on the {left}",
    "right": "on the {right}",
    "top": "at the {top}",
    "bottom": "at the {bottom}",
}
_PLAIN_PHRASES = (("on", "background"), ("in front of", "wall"))
_LANDSCAPE_PHRASES = {
    "beach": ("on the {beach}", "at the {beach}"),
    "meadow": ("in a {meadow}", "on the {grass}"),
    "snow": ("in the {snow}", "in the {snow}"),
    "night": ("at {night}", "under the {stars}"),
    "desert": ("in the {desert}", "in the {desert}"),
    "sea": ("at {sea}", "on the {sea}"),
    "mountains": ("in the {mountains}", "in the {mountains}"),
    "sunset": ("at {sunset}", "at {sunset}"),
}
_SOUNDS_LIKE_A_CONSONANT = frozenset({"unicorn"})


class Span(NamedTuple):
    """A word that carries meaning: characters `start` to `end` of the caption, and its part in it (one of ROLES)."""

    start: int
    end: int
    role: str


class SceneCaption(NamedTuple):
    """A sentence and its telling words, in order."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Wording:
    """The choices that don't change what a sentence means; a true caption and its wrong variants share one."""

    opening: int = 0
    names: tuple[int, ...] = (0, 0, 0, 0)
    relation: int = 0
    background: int = 0
    copula: bool = False

    @classmethod
    def choose(cls, rng: random.Random, *, synonyms: float, phrases: float) -> Wording:
        """A random wording: each name is a synonym with probability `synonyms`, an opening stands with `phrases`."""
        return cls(
            opening=rng.randrange(1, len(_OPENINGS)) if rng.random() < phrases else 0,
            names=tuple(int(rng.random() < synonyms) for _ in range(4)),
            relation=int(rng.random() < 2 * synonyms),
            background=int(rng.random() < 0.3),
            copula=rng.random() < phrases / 2,
        )


class _Sentence:
    """Text put together piece by piece; telling words become spans."""

    def __init__(self, opening: str) -> None:
        self.text = opening
        self.spans: list[Span] = []

    def word(self, word: str, role: str) -> None:
        """A telling word."""
        self.spans.append(Span(len(self.text), len(self.text) + len(word), role))
        self.text += word

    def phrase(self, phrase: str, role: str) -> None:
        """A phrase whose telling word stands in braces."""
        before, _, rest = phrase.partition("{")
        word, _, after = rest.partition("}")
        self.text += before
        self.word(word, role)
        self.text += after

    def caption(self) -> SceneCaption:
        return SceneCaption(self.text, tuple(self.spans))


def put_into_words(meaning: Meaning, wording: Wording) -> SceneCaption:
    """The caption of `meaning`, lowercase, without a full stop."""
    mentions, relation = meaning.mentions, meaning.relation
    opening = _OPENINGS[wording.opening]
    if opening == "there is " and (mentions[0].count or 1) > 1:
        opening = "there are "
    sentence = _Sentence(opening)
    _mention(sentence, mentions[0], wording.names[0])
    if relation is not None:
        sentence.text += " is " if wording.copula and not opening else " "
        sentence.phrase(_RELATIONS[relation][wording.relation], "relation")
        sentence.text += " "
        _mention(sentence, mentions[1], wording.names[1])
        rest = mentions[2:]
    else:
        rest = mentions[1:]
    for index, mention in enumerate(rest, len(mentions) - len(rest)):
        sentence.text += " and " if index == len(mentions) - 1 else ", "
        _mention(sentence, mention, wording.names[index])
    if meaning.background is not None:
        sentence.text += " "
        sentence.phrase(_background_phrase(meaning.background, wording.background), "background")
    return sentence.caption()


def _mention(sentence: _Sentence, mention: Mention, name_index: int) -> None:
    thing = THING[mention.thing]
    name = thing.names[min(name_index, len(thing.names) - 1)]
    if mention.count is None:
        sentence.text += _article(mention.colour or name) + " "
    else:
        sentence.word(COUNT_WORDS[mention.count], "count")
        sentence.text += " "
        if mention.count > 1:
            name = thing.plural(name)
    if mention.colour is not None:
        sentence.word(mention.colour, "colour")
        sentence.text += " "
    sentence.word(name, "object")
    if mention.place is not None:
        sentence.text += " "
        sentence.phrase(_PLACES[mention.place], "relation")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" and word not in _SOUNDS_LIKE_A_CONSONANT else "a"


def _background_phrase(name: str, choice: int) -> str:
    if name not in PLAIN:
        return _LANDSCAPE_PHRASES[name][choice]
    before, after = _PLAIN_PHRASES[choice]
    return f"{before} {_article(name)} {{{name}}} {after}"
