"""What one picture shows (`Scene`) and what one sentence says of it (`Meaning`): data only, no pixels and no words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from bt_cli.scenes.things import THING

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "top": "bottom", "bottom": "top"}

# What counts as left of something, and as on the left of the picture, in fractions of the picture's side. Layouts keep
# whatever should not count within these margins and whatever should far outside them.
_APART = 0.08
_OFF_CENTRE = 0.05


@dataclass(frozen=True)
class Placed:
    """A thing in a picture: the centre (`x` rightwards, `y` downwards) and the longer side as fractions of the picture.

    `tint` is the colour it is drawn in; None leaves the emoji as it is (shapes always have one).
    """

    thing: str
    x: float
    y: float
    size: float
    tint: str | None = None
    flipped: bool = False

    @property
    def colour(self) -> str | None:
        """The colour that a sentence may give it."""
        return self.tint or THING[self.thing].natural


@dataclass(frozen=True)
class Scene:
    """Things in front of a background; `variant` picks one of the background's looks."""

    objects: tuple[Placed, ...]
    background: str
    variant: int
    family: str


@dataclass(frozen=True)
class Mention:
    """One thing as a sentence names it. `count` None is "a cat" (at least one), a number is exactly so many."""

    thing: str
    colour: str | None = None
    count: int | None = None
    place: str | None = None  # "left", "right", "top" or "bottom" of the picture


@dataclass(frozen=True)
class Meaning:
    """What a sentence says. `relation` is about the mentions in order: "left" = the first is left of the second,
    "between" = the first is between the two others."""

    mentions: tuple[Mention, ...]
    relation: str | None = None
    background: str | None = None

    def key(self) -> tuple[object, ...]:
        """The same for all sentences that mean the same: "a cat left of a dog" and "a dog right of a cat"."""
        mentions, relation = self.mentions, self.relation
        if relation in ("right", "below"):
            mentions, relation = mentions[::-1], OPPOSITE[relation]
        entries = [(m.thing, m.colour or "", m.count or 0, m.place or "") for m in mentions]
        if relation is None:
            entries.sort()
        elif relation == "between":
            entries[1:] = sorted(entries[1:])
        return (tuple(entries), relation or "", self.background or "")

    def replaced(self, index: int, **changes: object) -> Meaning:
        """This meaning with mention `index` changed."""
        mentions = list(self.mentions)
        mentions[index] = replace(mentions[index], **changes)  # type: ignore[arg-type]
        return replace(self, mentions=tuple(mentions))

    def holds(self, scene: Scene) -> bool:
        """Whether the sentence is true of the picture. "A cat" is true of a picture with a cat and a dog."""
        if self.background is not None and self.background != scene.background:
            return False
        candidates = [[o for o in scene.objects if _matches(m, o)] for m in self.mentions]
        for mention, found in zip(self.mentions, candidates, strict=True):
            if len(found) != mention.count if mention.count else not found:
                return False
        if len(self.mentions) == 1:
            return True
        return any(
            len({id(o) for o in chosen}) == len(chosen) and _stands(self.relation, chosen)
            for chosen in itertools.product(*candidates)
        )


def _matches(mention: Mention, placed: Placed) -> bool:
    if mention.thing != placed.thing or (mention.colour and mention.colour != placed.colour):
        return False
    match mention.place:
        case "left":
            return placed.x < 0.5 - _OFF_CENTRE
        case "right":
            return placed.x > 0.5 + _OFF_CENTRE
        case "top":
            return placed.y < 0.5 - _OFF_CENTRE
        case "bottom":
            return placed.y > 0.5 + _OFF_CENTRE
    return True


def _stands(relation: str | None, objects: tuple[Placed, ...]) -> bool:
    if relation is None:
        return True
    a, b = objects[:2]
    match relation:
        case "left":
            return a.x < b.x - _APART
        case "right":
            return a.x > b.x + _APART
        case "above":
            return a.y < b.y - _APART
        case "below":
            return a.y > b.y + _APART
        case "between":
            c = objects[2]
            return _within(a.x, b.x, c.x) or _within(a.y, b.y, c.y)
    raise ValueError(f"no relation {relation!r}")


def _within(middle: float, one: float, other: float) -> bool:
    return min(one, other) + _APART < middle < max(one, other) - _APART
