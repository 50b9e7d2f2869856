from __future__ import annotations

import pytest

from bt_cli.scenes.scene import Meaning, Mention, Placed, Scene

CAT = Placed("cat", 0.25, 0.5, 0.4)
RED_CAR = Placed("car", 0.75, 0.52, 0.4, tint="red")
PAIR = Scene((CAT, RED_CAR), "beach", 0, "relation")


def meaning(*things: str, relation: str | None = None, background: str | None = None) -> Meaning:
    return Meaning(tuple(Mention(thing) for thing in things), relation, background)


@pytest.mark.parametrize(
    ("said", "true"),
    [
        (meaning("cat", "car", relation="left"), True),
        (meaning("car", "cat", relation="right"), True),
        (meaning("car", "cat", relation="left"), False),
        (meaning("cat", "car", relation="above"), False),
        (meaning("car", "cat", relation="above"), False),
        (meaning("cat", "car"), True),
        (meaning("car", "cat"), True),
        (meaning("cat"), True),
        (meaning("dog"), False),
        (meaning("cat", "dog"), False),
        (meaning("cat", background="beach"), True),
        (meaning("cat", background="sea"), False),
        (Meaning((Mention("car", "red"),)), True),
        (Meaning((Mention("car", "blue"),)), False),
        (Meaning((Mention("cat", None, 1),)), True),
        (Meaning((Mention("cat", None, 2),)), False),
        (Meaning((Mention("cat", None, None, "left"),)), True),
        (Meaning((Mention("cat", None, None, "right"),)), False),
        (Meaning((Mention("cat", None, None, "top"),)), False),
        (Meaning((Mention("cat", None, None, "bottom"),)), False),
        (Meaning((Mention("cat", None, None, "left"), Mention("car", None, None, "right"))), True),
        (Meaning((Mention("cat", None, None, "right"), Mention("car", None, None, "left"))), False),
    ],
)
def test_what_is_true_of_a_cat_left_of_a_red_car_on_the_beach(said: Meaning, true: bool):
    assert said.holds(PAIR) is true


def test_a_natural_colour_may_be_said_of_an_untinted_thing_only():
    red_apple = Meaning((Mention("apple", "red"),))
    assert red_apple.holds(Scene((Placed("apple", 0.5, 0.5, 0.5),), "white", 0, "one"))
    assert not red_apple.holds(Scene((Placed("apple", 0.5, 0.5, 0.5, tint="blue"),), "white", 0, "one"))


def test_counts_are_exact_and_a_plain_mention_is_at_least_one():
    scene = Scene(tuple(Placed("bee", x, 0.5, 0.3) for x in (0.2, 0.5, 0.8)), "white", 0, "count")
    assert [Meaning((Mention("bee", None, n),)).holds(scene) for n in (None, 1, 2, 3, 4)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_two_mentions_need_two_things():
    red, blue = (Placed("star", x, 0.5, 0.3, tint=tint) for x, tint in ((0.3, "red"), (0.7, "blue")))
    both = Scene((red, blue), "white", 0, "relation")
    assert Meaning((Mention("star", "red"), Mention("star", "blue")), "left").holds(both)
    assert not Meaning((Mention("star", "blue"), Mention("star", "red")), "left").holds(both)
    assert not Meaning((Mention("star", "red"), Mention("star", "red"))).holds(both)


@pytest.mark.parametrize("upright", [False, True])
def test_between_is_about_the_one_in_the_middle(upright: bool):
    spots = [(0.5, 0.45), (0.17, 0.5), (0.83, 0.48)]
    objects = [
        Placed(thing, *((y, x) if upright else (x, y)), 0.3)
        for thing, (x, y) in zip(("bee", "cat", "dog"), spots, strict=True)
    ]
    scene = Scene(tuple(objects), "white", 0, "between")
    assert meaning("bee", "cat", "dog", relation="between").holds(scene)
    assert meaning("bee", "dog", "cat", relation="between").holds(scene)
    assert not meaning("cat", "bee", "dog", relation="between").holds(scene)
    assert not meaning("dog", "bee", "cat", relation="between").holds(scene)


def test_the_same_said_otherwise_has_the_same_key():
    assert meaning("cat", "dog", relation="left").key() == meaning("dog", "cat", relation="right").key()
    assert meaning("cat", "dog", relation="above").key() == meaning("dog", "cat", relation="below").key()
    assert meaning("cat", "dog").key() == meaning("dog", "cat").key()
    assert (
        meaning("bee", "cat", "dog", relation="between").key() == meaning("bee", "dog", "cat", relation="between").key()
    )


def test_what_differs_has_another_key():
    keys = [
        meaning("cat", "dog", relation="left").key(),
        meaning("dog", "cat", relation="left").key(),
        meaning("cat", "dog", relation="above").key(),
        meaning("cat", "dog").key(),
        meaning("cat", "dog", background="sea").key(),
        meaning("bee", "cat", "dog", relation="between").key(),
        meaning("cat", "bee", "dog", relation="between").key(),
        Meaning((Mention("cat", "red"), Mention("dog"))).key(),
        Meaning((Mention("cat", None, 2), Mention("dog"))).key(),
        Meaning((Mention("cat", None, None, "left"), Mention("dog"))).key(),
    ]
    assert len(set(keys)) == len(keys)
