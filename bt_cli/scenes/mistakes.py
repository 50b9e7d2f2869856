"""Captions that are wrong for a picture by one thing, of a known kind."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

from bt_cli.scenes.backgrounds import BACKGROUNDS
from bt_cli.scenes.scene import OPPOSITE, Meaning, Scene
from bt_cli.scenes.things import COLOURS, THING, partners
from bt_cli.scenes.wording import Wording, put_into_words

KINDS = ("mirror", "axis", "colour", "binding", "count", "object", "background")

_COLOURS, _NAMES = tuple(COLOURS), tuple(THING)
_ACROSS = {
    **dict.fromkeys(("left", "right"), ("above", "below")),
    **dict.fromkeys(("above", "below"), ("left", "right")),
}
_PLACE_ACROSS = {
    **dict.fromkeys(("left", "right"), ("top", "bottom")),
    **dict.fromkeys(("top", "bottom"), ("left", "right")),
}


class Negative(NamedTuple):
    """A wrong caption and what is wrong with it (one of KINDS)."""

    text: str
    kind: str


def wrong_captions(scene: Scene, meaning: Meaning, wording: Wording, split: str, rng: random.Random) -> list[Negative]:
    """Captions in a like wording that are false of `scene`, at most two of a kind and always one of kind "object"."""
    wrong = []
    for changed, kind in _changes(meaning, split, rng):
        if not changed.holds(scene):
            wrong.append(Negative(put_into_words(changed, wording).text, kind))
    return wrong


def _changes(meaning: Meaning, split: str, rng: random.Random) -> list[tuple[Meaning, str]]:
    changes = _moved(meaning, rng)
    mentions = meaning.mentions
    coloured = [i for i, mention in enumerate(mentions) if mention.colour]
    if coloured:
        index = rng.choice(coloured)
        others = [name for name in _COLOURS if name != mentions[index].colour]
        changes.append((meaning.replaced(index, colour=rng.choice(others)), "colour"))
    if len(coloured) >= 2:
        i, j = rng.sample(coloured, 2)
        if mentions[i].colour != mentions[j].colour and mentions[i].thing != mentions[j].thing:
            swapped = meaning.replaced(i, colour=mentions[j].colour).replaced(j, colour=mentions[i].colour)
            changes.append((swapped, "binding"))
    counted = [i for i, mention in enumerate(mentions) if mention.count]
    if counted:
        index = rng.choice(counted)
        fewest = 1 if len(mentions) == 1 else 2
        counts = [n for n in range(fewest, 5) if n != mentions[index].count]
        changes.append((meaning.replaced(index, count=rng.choice(counts)), "count"))
    if meaning.background is not None:
        others = [name for name in BACKGROUNDS if name != meaning.background]
        changes.append((replace(meaning, background=rng.choice(others)), "background"))
    changes.append((_other_thing(meaning, split, rng), "object"))
    return changes


def _moved(meaning: Meaning, rng: random.Random) -> list[tuple[Meaning, str]]:
    """Wrong places and relations."""
    mentions, relation = meaning.mentions, meaning.relation
    if relation == "between":
        a, b, c = mentions
        return [(replace(meaning, mentions=(b, a, c) if rng.random() < 0.5 else (c, b, a)), "mirror")]
    if relation is not None:
        return [
            (replace(meaning, relation=OPPOSITE[relation]), "mirror"),
            (replace(meaning, mentions=mentions[::-1]), "mirror"),
            (replace(meaning, relation=rng.choice(_ACROSS[relation])), "axis"),
        ]
    if len(mentions) == 1 and mentions[0].place:
        place = mentions[0].place
        return [
            (meaning.replaced(0, place=OPPOSITE[place]), "mirror"),
            (meaning.replaced(0, place=rng.choice(_PLACE_ACROSS[place])), "axis"),
        ]
    if len(mentions) == 2 and mentions[0].place and mentions[1].place:
        a, b = mentions
        swapped = (replace(a, place=b.place), replace(b, place=a.place))
        return [
            (replace(meaning, mentions=swapped), "mirror"),
            (replace(meaning, mentions=swapped[::-1]), "mirror"),
        ]
    return []


def _other_thing(meaning: Meaning, split: str, rng: random.Random) -> Meaning:
    """One thing replaced by one that is nowhere in the sentence and may meet the others in this split."""
    index = rng.randrange(len(meaning.mentions))
    present = {mention.thing for mention in meaning.mentions}
    rest = {mention.thing for i, mention in enumerate(meaning.mentions) if i != index}
    allowed = frozenset(_NAMES).intersection(*(partners(name, split) for name in rest)) - present
    return meaning.replaced(index, thing=rng.choice(sorted(allowed)))
