"""Scenes thought up by family: what stands where in what colour, and what is said of it."""

from __future__ import annotations

import random
from typing import NamedTuple

from bt_cli.scenes.backgrounds import DROWNED, LANDSCAPES, PLAIN, VARIANTS
from bt_cli.scenes.scene import Meaning, Mention, Placed, Scene
from bt_cli.scenes.things import COLOURS, THING, THINGS, partners

FAMILIES = ("one", "one-position", "two", "two-positions", "relation", "count", "between", "many")
EXERCISES = ("one-of-two",)
"""Families for training alone: two things, of which the sentence places one. Whoever can tell that "a cat on the right"
is wrong of a cat on the left and a dog on the right has tied words to places."""

_PLAIN, _COLOURS, _NAMES = tuple(PLAIN), tuple(COLOURS), tuple(thing.name for thing in THINGS)
_SPOT = tuple[float, float, float]  # x, y, size
_SIDES = {"left": ("left", "right"), "right": ("right", "left"), "above": ("top", "bottom"), "below": ("bottom", "top")}
_MANY = ((1, 1, 1), (1, 1, 1), (2, 1), (2, 1), (3, 1), (2, 2), (1, 1, 1, 1), (2, 1, 1))


class Composed(NamedTuple):
    """A picture's content and what its caption says."""

    scene: Scene
    meaning: Meaning


class Look(NamedTuple):
    """A thing with the colour it is drawn in and the colour that is said."""

    thing: str
    tint: str | None
    said: str | None


def compose(
    family: str,
    rng: random.Random,
    *,
    split: str,
    colour: float,
    background: float,
    things: tuple[str, ...] = (),
) -> Composed:
    """A random scene of `family` (one of FAMILIES or EXERCISES).

    `colour` is the share of things that are tinted (shapes always are), `background` the share of sentences that
    name the background. Different things in one picture are pairs of `split`, unless `things` says which they are.
    """
    behind = rng.choice(_PLAIN) if rng.random() < 0.6 else rng.choice(LANDSCAPES)
    painter = _Painter(rng, split, colour, behind, things)
    match family:
        case "one" | "one-position":
            objects, mentions = _one(painter, placed=family == "one-position")
            relation = None
        case "two" | "two-positions" | "relation" | "one-of-two":
            objects, mentions, relation = _two(painter, family)
        case "count":
            objects, mentions = _counted(painter, (rng.randint(1, 4),))
            relation = None
        case "many":
            objects, mentions = _counted(painter, rng.choice(_MANY))
            relation = None
        case "between":
            objects, mentions = _between(painter)
            relation = "between"
        case _:
            raise ValueError(f"no family of scenes {family!r}; there are {', '.join(FAMILIES + EXERCISES)}")
    scene = Scene(objects, behind, rng.randrange(VARIANTS), family)
    return Composed(scene, Meaning(mentions, relation, behind if rng.random() < background else None))


class _Painter:
    """Picks things that may meet and colours that can be seen."""

    def __init__(self, rng: random.Random, split: str, colour: float, background: str, things: tuple[str, ...]) -> None:
        self.rng = rng
        self._wanted = list(things)
        self._split = split
        self._colour = colour
        self._drowned = DROWNED[background]
        self._visible = [name for name in _COLOURS if name not in self._drowned]

    def things(self, count: int) -> list[str]:
        """`count` different things; every two of them a pair of the split."""
        if self._wanted:
            return self._wanted[:count]
        while True:
            chosen = [self.rng.choice(_NAMES)]
            while len(chosen) < count:
                allowed = frozenset.intersection(*(partners(name, self._split) for name in chosen))
                if not allowed:
                    break  # no third thing for a pair of one column: start over
                chosen.append(self.rng.choice(sorted(allowed)))
            else:
                return chosen

    def look(self, thing: str) -> Look:
        natural = THING[thing].natural
        tinted = not THING[thing].emoji or natural in self._drowned or self.rng.random() < self._colour
        if not tinted:
            return Look(thing, None, natural if self.rng.random() < 0.3 * self._colour else None)
        tint = self.rng.choice(self._visible)
        return Look(thing, tint, tint if self.rng.random() < 0.92 else None)

    def looks(self, count: int) -> list[Look]:
        """Different things, or now and then twice the same in two colours."""
        if count == 2 and not self._wanted and self.rng.random() < 0.12 * self._colour:
            thing = self.rng.choice(_NAMES)
            return [Look(thing, tint, tint) for tint in self.rng.sample(self._visible, 2)]
        return [self.look(thing) for thing in self.things(count)]

    def put(self, look: Look, spot: _SPOT) -> Placed:
        x, y, size = spot
        return Placed(look.thing, x, y, size, look.tint, self.rng.random() < 0.5)


def _one(painter: _Painter, *, placed: bool) -> tuple[tuple[Placed, ...], tuple[Mention, ...]]:
    rng, look = painter.rng, painter.looks(1)[0]
    if not placed:
        size = rng.uniform(0.42, 0.6)
        spot = (rng.uniform(size / 2, 1 - size / 2), rng.uniform(size / 2, 1 - size / 2), size)
        return (painter.put(look, spot),), (Mention(look.thing, look.said),)
    size = rng.uniform(0.36, 0.5)
    near = size / 2 + rng.uniform(0.0, 0.08)
    # In half of the pictures the other direction is central, so that "at the top" is plainly wrong there.
    across = 0.5 + rng.uniform(-0.04, 0.04) * rng.choice((1, 5))
    place = rng.choice(("left", "right", "top", "bottom"))
    along = near if place in ("left", "top") else 1 - near
    spot = (along, across, size) if place in ("left", "right") else (across, along, size)
    return (painter.put(look, spot),), (Mention(look.thing, look.said, None, place),)


def _two(painter: _Painter, family: str) -> tuple[tuple[Placed, ...], tuple[Mention, ...], str | None]:
    rng, (a, b) = painter.rng, painter.looks(2)
    if family == "two":
        spots = _loose_pair(rng)
        return (painter.put(a, spots[0]), painter.put(b, spots[1])), (_said(a), _said(b)), None
    relation = rng.choice(("left", "right", "above", "below"))
    spots = _pair_in_line(rng, relation, apart=family == "relation")
    objects = (painter.put(a, spots[0]), painter.put(b, spots[1]))
    if family == "relation":
        return objects, (_said(a), _said(b)), relation
    first, second = _SIDES[relation]
    mentions = (Mention(a.thing, a.said, None, first), Mention(b.thing, b.said, None, second))
    return objects, mentions if family == "two-positions" else (rng.choice(mentions),), None


def _said(look: Look) -> Mention:
    return Mention(look.thing, look.said)


def _loose_pair(rng: random.Random) -> list[_SPOT]:
    while True:
        spots = []
        for _ in range(2):
            size = rng.uniform(0.34, 0.46)
            spots.append((rng.uniform(size / 2, 1 - size / 2), rng.uniform(size / 2, 1 - size / 2), size))
        (ax, ay, a), (bx, by, b) = spots
        if max(abs(ax - bx), abs(ay - by)) > 0.48 * (a + b):
            return spots


def _pair_in_line(rng: random.Random, relation: str, *, apart: bool) -> list[_SPOT]:
    """Where the first stands in `relation` to the second. `apart`: anywhere in the picture and level with each other;
    otherwise each in its own half."""
    a, b = rng.uniform(0.33, 0.44), rng.uniform(0.33, 0.44)
    near, far = (a, b) if relation in ("left", "above") else (b, a)
    room = 1 - a - b - 0.03
    start = rng.uniform(0, room) if apart else rng.uniform(0, 0.06)
    end = rng.uniform(0, room - start) if apart else rng.uniform(0, 0.06)
    first, second = start + near / 2, 1 - end - far / 2
    level = rng.uniform(0.3, 0.7)
    across = [min(max(level + rng.uniform(-0.035, 0.035), s / 2), 1 - s / 2) for s in (near, far)]
    if not apart:
        across = [rng.uniform(0.32, 0.68), rng.uniform(0.32, 0.68)]
    spots = [(first, across[0], near), (second, across[1], far)]
    if relation in ("right", "below"):
        spots.reverse()
    return spots if relation in ("left", "right") else [(y, x, size) for x, y, size in spots]


def _between(painter: _Painter) -> tuple[tuple[Placed, ...], tuple[Mention, ...]]:
    rng, looks = painter.rng, painter.looks(3)
    sizes = [rng.uniform(0.25, 0.31) for _ in looks]
    centres = [0.5 + rng.uniform(-0.02, 0.02), 0.165 + rng.uniform(-0.01, 0.02), 0.835 + rng.uniform(-0.02, 0.01)]
    if rng.random() < 0.5:
        centres[1:] = reversed(centres[1:])
    level, upright = rng.uniform(0.3, 0.7), rng.random() < 0.35
    spots = []
    for centre, size in zip(centres, sizes, strict=True):
        across = level + rng.uniform(-0.04, 0.04)
        spots.append((across, centre, size) if upright else (centre, across, size))
    objects = tuple(painter.put(look, spot) for look, spot in zip(looks, spots, strict=True))
    return objects, tuple(_said(look) for look in looks)


def _counted(painter: _Painter, counts: tuple[int, ...]) -> tuple[tuple[Placed, ...], tuple[Mention, ...]]:
    """So many of each of several things, scattered. A single kind is always counted: "one apple"."""
    looks = painter.looks(len(counts)) if len(counts) != 2 else [painter.look(t) for t in painter.things(2)]
    spots = _scattered(painter.rng, sum(counts))
    objects, mentions = [], []
    for look, count in zip(looks, counts, strict=True):
        objects += [painter.put(look, spots.pop()) for _ in range(count)]
        mentions.append(Mention(look.thing, look.said, count if count > 1 or len(counts) == 1 else None))
    return tuple(objects), tuple(mentions)


def _scattered(rng: random.Random, count: int) -> list[_SPOT]:
    """So many spots that don't overlap, the sizes alike."""
    if count == 1:
        size = rng.uniform(0.36, 0.5)
        return [(rng.uniform(size / 2, 1 - size / 2), rng.uniform(size / 2, 1 - size / 2), size)]
    cells = 2 if count == 2 or rng.random() < 0.6 else 3
    side = 1 / cells
    base = rng.uniform(0.34, 0.44) if cells == 2 else rng.uniform(0.28, 0.31)
    spots = []
    for cell in rng.sample(range(cells * cells), count):
        size = base * rng.uniform(0.94, 1.06)
        slack = max(0.0, (side - size) / 2)
        row, column = divmod(cell, cells)
        x, y = (column + 0.5) * side, (row + 0.5) * side
        spots.append((x + rng.uniform(-slack, slack), y + rng.uniform(-slack, slack), size))
    return spots
