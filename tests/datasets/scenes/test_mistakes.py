from __future__ import annotations

import random
from collections import Counter

import pytest

from bt_cli.datasets.scenes.captions import Wording, put_into_words
from bt_cli.datasets.scenes.layout import FAMILIES, compose
from bt_cli.datasets.scenes.mistakes import KINDS, wrong_captions
from bt_cli.datasets.scenes.scene import Meaning, Mention, Placed, Scene


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
