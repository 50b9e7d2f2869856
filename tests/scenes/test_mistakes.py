from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from bt_cli.scenes.layout import FAMILIES, compose
from bt_cli.scenes.mistakes import KINDS, wrong_captions
from bt_cli.scenes.scene import Meaning, Mention, Placed, Scene
from bt_cli.scenes.things import THINGS
from bt_cli.scenes.wording import Wording, put_into_words


def wrong(scene: Scene, meaning: Meaning) -> list[tuple[str, str]]:
    return [(n.text, n.kind) for n in wrong_captions(scene, meaning, Wording(), "train", random.Random(1))]


def test_a_relation_is_mirrored_both_ways_and_turned():
    scene = Scene((Placed("cat", 0.25, 0.5, 0.4), Placed("car", 0.75, 0.5, 0.4)), "white", 0, "relation")
    found = wrong(scene, Meaning((Mention("cat"), Mention("car")), "left"))
    assert found[:2] == [
        ("a cat to the right of a car", "mirror"),
        ("a car to the left of a cat", "mirror"),
    ]
    assert found[2] in [("a cat above a car", "axis"), ("a cat below a car", "axis")]
    assert [kind for _, kind in found[3:]] == ["object"]


def test_two_places_are_swapped_both_ways():
    scene = Scene((Placed("cat", 0.25, 0.5, 0.4), Placed("car", 0.75, 0.5, 0.4)), "white", 0, "two-positions")
    meaning = Meaning((Mention("cat", None, None, "left"), Mention("car", None, None, "right")))
    assert wrong(scene, meaning)[:2] == [
        ("a cat on the right and a car on the left", "mirror"),
        ("a car on the left and a cat on the right", "mirror"),
    ]


def test_colours_are_changed_and_swapped():
    scene = Scene((Placed("cat", 0.25, 0.5, 0.4, "red"), Placed("car", 0.75, 0.5, 0.4, "blue")), "white", 0, "two")
    found = wrong(scene, Meaning((Mention("cat", "red"), Mention("car", "blue"))))
    assert [kind for _, kind in found] == ["colour", "binding", "object"]
    assert found[1] == ("a blue cat and a red car", "binding")


def test_a_place_that_may_pass_for_true_is_not_called_wrong():
    # High up on the left: "at the top" would be true as well.
    scene = Scene((Placed("cat", 0.25, 0.3, 0.4),), "white", 0, "one-position")
    texts = {
        text
        for seed in range(20)
        for text, _ in wrong_captions(
            scene, Meaning((Mention("cat", None, None, "left"),)), Wording(), "train", random.Random(seed)
        )
    }
    assert "a cat at the top" not in texts
    assert {"a cat on the right", "a cat at the bottom"} <= texts


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_captions_are_wrong_and_read_otherwise(family: str):
    rng = random.Random(family)
    for _ in range(150):
        scene, meaning = compose(family, rng, split="train", colour=0.5, background=0.3)
        wording = Wording.choose(rng, synonyms=0.3, phrases=0.3)
        true = put_into_words(meaning, wording).text
        found = wrong_captions(scene, meaning, wording, "train", rng)
        assert true not in [negative.text for negative in found]
        assert "object" in [negative.kind for negative in found]
        assert all(negative.kind in KINDS for negative in found)
        assert max(Counter(negative.kind for negative in found).values()) <= 2


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("one-position", "mirror"),
        ("two-positions", "mirror"),
        ("relation", "mirror"),
        ("relation", "axis"),
        ("between", "mirror"),
        ("count", "count"),
    ],
)
def test_every_picture_of_a_family_has_its_kind(family: str, kind: str):
    rng = random.Random(kind)
    for _ in range(150):
        scene, meaning = compose(family, rng, split="train", colour=0.3, background=0.3)
        assert kind in [n.kind for n in wrong_captions(scene, meaning, Wording(), "train", rng)]


NUMBERS = {"a": None, "an": None, "one": 1, "two": 2, "three": 3, "four": 4}
NAMES = {form: thing.name for thing in THINGS for form in (thing.plural(thing.name), thing.name)}
SIDES = {
    "on the left": lambda o: o.x < 0.5,
    "on the right": lambda o: o.x > 0.5,
    "at the top": lambda o: o.y < 0.5,
    "at the bottom": lambda o: o.y > 0.5,
}
STANDS = {
    " to the left of ": lambda a, b: a.x - b.x < -abs(a.y - b.y),
    " to the right of ": lambda a, b: a.x - b.x > abs(a.y - b.y),
    " above ": lambda a, b: a.y - b.y < -abs(a.x - b.x),
    " below ": lambda a, b: a.y - b.y > abs(a.x - b.x),
}


def things_meant(words: str, scene: Scene) -> list[Placed]:
    """What "two red cats on the left" may refer to in the scene: a second reading, from the text alone."""
    side = next((side for side in SIDES if words.endswith(side)), "")
    number, *colour, name = words.removesuffix(side).split()
    found = [o for o in scene.objects if o.thing == NAMES[name] and (not colour or o.colour == colour[0])]
    if NUMBERS[number] not in (None, len(found)):
        return []
    return [o for o in found if not side or SIDES[side](o)]


def reads_true(text: str, scene: Scene) -> bool:
    for phrase, stands in STANDS.items():
        if phrase in text:
            a, b = (things_meant(words, scene) for words in text.split(phrase))
            return any(stands(x, y) for x in a for y in b if x is not y)
    if " between " in text:
        middle, ends = text.split(" between ")
        a, b, c = (things_meant(words, scene) for words in (middle, *ends.split(" and ")))
        return any(abs((x.x + x.y) - (y.x + y.y + z.x + z.y) / 2) < 0.15 for x in a for y in b for z in c)
    meant = [things_meant(words, scene) for words in text.replace(" and ", ", ").split(", ")]
    return any(len(set(map(id, chosen))) == len(meant) for chosen in itertools.product(*meant))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_reading_finds_true_captions_true_and_wrong_ones_wrong(family: str):
    rng = random.Random(family)
    for _ in range(200):
        scene, meaning = compose(family, rng, split="train", colour=0.5, background=0.0)
        assert reads_true(put_into_words(meaning, Wording()).text, scene)
        for negative in wrong_captions(scene, meaning, Wording(), "train", rng):
            if negative.kind == "axis" and family == "one-position":
                continue  # which half a central thing is in is for nobody to say
            assert not reads_true(negative.text, scene), (negative, scene)
