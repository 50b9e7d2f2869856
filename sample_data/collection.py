"""A finite collection of scenes in which every caption is true of one picture alone, and its folder on disk."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import open_whole, write_whole
from bt_cli.scenes.backgrounds import BACKGROUNDS, DROWNED, VARIANTS
from bt_cli.scenes.drawing import draw
from bt_cli.scenes.layout import Composed, compose
from bt_cli.scenes.mistakes import Negative, wrong_captions
from bt_cli.scenes.sampler import check_split, checked_mix, group_of
from bt_cli.scenes.scene import Meaning, Placed, Scene
from bt_cli.scenes.sprites import SpriteSheet
from bt_cli.scenes.wording import Wording, put_into_words

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

COLUMNS = ("image", "caption", "group", "negative", "negative_kind")

# Families whose captions say where things are: their pictures come together with all rearrangements.
_ARRANGED = frozenset({"one-position", "two-positions", "relation", "between"})
_TRANSPOSED = {"left": "above", "right": "below", "above": "left", "below": "right"}
_PLACES = {"left": "top", "right": "bottom", "top": "left", "bottom": "right"}
_FLIPPED = {"left": "right", "right": "left", "above": "below", "below": "above", "top": "bottom", "bottom": "top"}
_PATIENCE = 400


class Exhibit(NamedTuple):
    """A scene with its caption and one wrong caption."""

    scene: Scene
    meaning: Meaning
    caption: str
    negative: Negative


def collect(
    n: int,
    split: str = "test",
    seed: int = 0,
    *,
    mix: Mapping[str, float] | None = None,
    colour: float = 0.35,
    background: float = 0.5,
    synonyms: float = 0.0,
    phrases: float = 0.0,
    things: Sequence[tuple[str, ...]] = (),
) -> list[Exhibit]:
    """`n` scenes, each meaning once: a caption is true of its own
    picture and of no other.

    Scenes of a family with positions come in sets: both things of "relation" and "two-positions" left, right, above and
    below, one thing of "one-position" on all four sides, every thing of "between" in the middle. So each picture's
    mirror is in the collection too. `mix` weights families by pictures (default: relations alone); `things` are shown
    first, in scenes of the family that shows so many. Raises BadConfig where no further scene is unlike those it has.
    """
    mix = checked_mix({"relation": 1.0} if mix is None else mix)
    check_split(split)
    rng = random.Random(f"{seed}/{split}/collection")
    collected = _Collected()
    wanted = list(things)
    families = [family for family, weight in mix.items() if weight > 0]
    total = sum(mix[family] for family in families)
    misses = 0
    while len(collected.exhibits) < n:
        # The family that is furthest behind its share.
        due = {name: mix[name] / total * (len(collected.exhibits) + 1) for name in families}
        family = max(families, key=lambda name: due[name] - collected.shown[name])
        pinned: tuple[str, ...] = ()
        if wanted:
            pinned, family = wanted[0], "relation" if len(wanted[0]) == 2 else "between"
        arranged = family in _ARRANGED
        named = 0.0 if arranged else background
        first = compose(family, rng, split=split, colour=0.0 if pinned else colour, background=named, things=pinned)
        if len({mention.thing for mention in first.meaning.mentions}) < len(first.meaning.mentions):
            continue  # twice the same thing in two colours: no pair that training would lack
        group = _rearranged(first, rng) if arranged else [first]
        wording = Wording.choose(rng, synonyms=synonyms, phrases=phrases)
        if not collected.welcomes(group):
            misses += 1
            if misses > _PATIENCE:
                raise BadConfig(f"found only {len(collected.exhibits)} of {n} scenes that captions can tell apart")
            continue
        misses = 0
        wanted = wanted[1:]
        for scene, meaning in group:
            said = _other_way_round(meaning) if rng.random() < 0.5 else meaning
            wrong = wrong_captions(scene, said, wording, split, rng)
            collected.add(Exhibit(scene, said, put_into_words(said, wording).text, _choose(wrong, rng)))
    return collected.exhibits[:n]


class _Collected:
    """What has been collected, findable by the things shown."""

    def __init__(self) -> None:
        self.exhibits: list[Exhibit] = []
        self.shown: Counter[str] = Counter()
        self._by_thing: dict[str, list[Composed]] = {}

    def welcomes(self, group: Sequence[Composed]) -> bool:
        """Whether no caption would be true of another's picture, among `group` and with what is here."""
        rivals = {id(entry): entry for new in group for thing in _shown(new) for entry in self._by_thing.get(thing, ())}
        everyone = [*group, *rivals.values()]
        for new in group:
            for other in everyone:
                if other is not new and (new.meaning.holds(other.scene) or other.meaning.holds(new.scene)):
                    return False
        return True

    def add(self, exhibit: Exhibit) -> None:
        self.exhibits.append(exhibit)
        self.shown[exhibit.scene.family] += 1
        entry = Composed(exhibit.scene, exhibit.meaning)
        for thing in _shown(entry):
            self._by_thing.setdefault(thing, []).append(entry)


def _shown(entry: Composed) -> set[str]:
    return {placed.thing for placed in entry.scene.objects}


def _other_way_round(meaning: Meaning) -> Meaning:
    """The same said from the other thing: "a dog to the right of a cat" for "a cat to the left of a dog"."""
    if meaning.relation in _TRANSPOSED:
        return replace(meaning, mentions=meaning.mentions[::-1], relation=_FLIPPED[meaning.relation])
    return meaning


def _choose(wrong: Sequence[Negative], rng: random.Random) -> Negative:
    """A mirrored caption where there is one, else a wrong count or colour, else whatever is wrong."""
    for kinds in (("mirror",), ("count", "colour", "binding"), ("background", "object")):
        found = [negative for negative in wrong if negative.kind in kinds]
        if found:
            return rng.choice(found)
    return wrong[0]


def _rearranged(first: Composed, rng: random.Random) -> list[Composed]:
    """The scene and its rearrangements, in front of backgrounds of their own."""
    if first.scene.family == "between":
        arrangements = [_rotated(first, turn) for turn in range(3)]
    else:
        turned = _transposed(first)
        arrangements = [first, _mirrored(first), turned, _mirrored(turned)]
    return [arrangements[0], *(_elsewhere(other, rng) for other in arrangements[1:])]


def _mirrored(composed: Composed) -> Composed:
    """The things change sides along the direction that the caption speaks of."""
    scene, meaning = composed
    upright = meaning.relation in ("above", "below") or meaning.mentions[0].place in ("top", "bottom")
    objects = tuple(replace(o, y=1 - o.y) if upright else replace(o, x=1 - o.x) for o in scene.objects)
    return Composed(replace(scene, objects=objects), _respoken(meaning, _FLIPPED, _FLIPPED))


def _transposed(composed: Composed) -> Composed:
    """Left becomes top and right becomes bottom, or the other way."""
    scene, meaning = composed
    objects = tuple(replace(o, x=o.y, y=o.x) for o in scene.objects)
    return Composed(replace(scene, objects=objects), _respoken(meaning, _TRANSPOSED, _PLACES))


def _respoken(meaning: Meaning, relations: Mapping[str, str], places: Mapping[str, str]) -> Meaning:
    mentions = tuple(replace(m, place=places[m.place]) if m.place else m for m in meaning.mentions)
    return replace(meaning, mentions=mentions, relation=relations[meaning.relation] if meaning.relation else None)


def _rotated(composed: Composed, turn: int) -> Composed:
    """Each thing moves on to the next one's spot, `turn` times."""
    scene, meaning = composed
    spots = [(o.x, o.y) for o in scene.objects]
    objects = tuple(_moved(o, *spots[(i + turn) % 3]) for i, o in enumerate(scene.objects))
    # The first spot is the middle: who stands there now is named first.
    order = [(-turn + i) % 3 for i in range(3)]
    return Composed(
        replace(scene, objects=tuple(objects[i] for i in order)),
        replace(meaning, mentions=tuple(meaning.mentions[i] for i in order)),
    )


def _moved(placed: Placed, x: float, y: float) -> Placed:
    return replace(placed, x=x, y=y)


def _elsewhere(composed: Composed, rng: random.Random) -> Composed:
    tints = {placed.colour for placed in composed.scene.objects}
    behind = rng.choice([name for name in BACKGROUNDS if not tints & DROWNED[name]])
    return Composed(replace(composed.scene, background=behind, variant=rng.randrange(VARIANTS)), composed.meaning)


def write_dataset(
    folder: str | os.PathLike[str],
    n: int,
    split: str = "test",
    seed: int = 0,
    *,
    size: int = 384,
    quality: int = 88,
    sheet: SpriteSheet | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> list[Exhibit]:
    """Collect scenes (:func:`collect` takes `options`) and write them to `folder`: images/scene-0001.jpg ... of `size`
    pixels a side, and captions.csv with the columns `image,caption,group,negative,negative_kind`.

    The same arguments, font and Pillow give the same bytes.
    """
    exhibits = collect(n, split, seed, **options)  # type: ignore[arg-type]
    sheet = sheet if sheet is not None else SpriteSheet.load()
    target = Path(folder)
    rows = []
    for number, exhibit in enumerate(exhibits, 1):
        name = f"scene-{number:04d}.jpg"
        write_jpeg(target / "images" / name, draw(exhibit.scene, sheet, size), quality)
        rows.append((name, exhibit.caption, group_of(exhibit.meaning), *exhibit.negative))
        if progress is not None:
            progress(number, len(exhibits))
    write_table(target / "captions.csv", COLUMNS, rows)
    return exhibits


def write_jpeg(path: Path, pixels: np.ndarray, quality: int) -> None:
    """Write (h, w, 3) uint8 as a JPEG file."""
    from PIL import Image

    with open_whole(path) as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, optimize=True)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write CSV in UTF-8 with plain line ends."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue())
