from __future__ import annotations

import itertools
import random

import pytest

from bt_cli.scenes.backgrounds import DROWNED
from bt_cli.scenes.layout import FAMILIES, Composed, compose
from bt_cli.scenes.things import SPLITS, THING, pair_split


def composed(family: str, split: str = "train", n: int = 150, **shares: float) -> list[Composed]:
    rng = random.Random(f"{family}/{split}")
    shares = {"colour": 0.5, "background": 0.5, **shares}
    return [compose(family, rng, split=split, **shares) for _ in range(n)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_caption_is_true(family: str):
    assert all(meaning.holds(scene) for scene, meaning in composed(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", SPLITS)
def test_things_that_meet_are_pairs_of_the_split(family: str, split: str):
    # Three things of a column are no trouble: every two of them are a validation pair.
    for scene, _ in composed(family, split, n=60):
        for a, b in itertools.combinations({placed.thing for placed in scene.objects}, 2):
            assert pair_split(a, b) == split


@pytest.mark.parametrize("family", FAMILIES)
def test_things_lie_inside_the_picture_and_apart(family: str):
    for scene, _ in composed(family):
        for placed in scene.objects:
            assert placed.size / 2 - 0.02 <= placed.x <= 1.02 - placed.size / 2
            assert placed.size / 2 - 0.02 <= placed.y <= 1.02 - placed.size / 2
        for a, b in itertools.combinations(scene.objects, 2):
            assert max(abs(a.x - b.x), abs(a.y - b.y)) > 0.9 * (a.size + b.size) / 2


@pytest.mark.parametrize(
    ("family", "smallest", "largest"),
    [
        ("one", 0.42, 0.6),
        ("one-position", 0.36, 0.5),
        ("two", 0.34, 0.46),
        ("relation", 0.33, 0.44),
        ("between", 0.25, 0.31),
        ("count", 0.26, 0.5),
    ],
)
def test_things_are_large_enough_to_be_seen_at_96_pixels(family: str, smallest: float, largest: float):
    sizes = [placed.size for scene, _ in composed(family) for placed in scene.objects]
    assert smallest <= min(sizes)
    assert max(sizes) <= largest


def test_things_in_a_relation_are_level_with_each_other():
    for scene, meaning in composed("relation"):
        a, b = scene.objects
        across = abs(a.y - b.y) if meaning.relation in ("left", "right") else abs(a.x - b.x)
        assert across < 0.08, "or another relation might be true too"


def test_all_relations_sides_and_counts_occur():
    assert {m.relation for _, m in composed("relation")} == {"left", "right", "above", "below"}
    assert {m.mentions[0].place for _, m in composed("one-position")} == {"left", "right", "top", "bottom"}
    assert {m.mentions[0].count for _, m in composed("count")} == {1, 2, 3, 4}
    assert {len(scene.objects) for scene, _ in composed("many")} == {3, 4}


def test_counted_things_are_so_many():
    for scene, meaning in composed("count"):
        (mention,) = meaning.mentions
        assert [placed.thing for placed in scene.objects] == [mention.thing] * mention.count


def test_tints_can_be_seen_and_shapes_have_one():
    for family in FAMILIES:
        for scene, _ in composed(family, n=60, colour=1.0):
            for placed in scene.objects:
                assert placed.tint is not None
                assert placed.tint not in DROWNED[scene.background]
        for scene, _ in composed(family, n=60, colour=0.0):
            for placed in scene.objects:
                assert (placed.tint is None) == bool(THING[placed.thing].emoji) or (
                    THING[placed.thing].natural in DROWNED[scene.background]
                )


def test_shares_of_none_and_all():
    assert all(meaning.background is None for _, meaning in composed("two", background=0.0))
    assert all(meaning.background == scene.background for scene, meaning in composed("two", background=1.0))


def test_wanted_things_are_shown():
    scene, meaning = compose(
        "relation", random.Random(0), split="test", colour=0.0, background=0.0, things=("cat", "dog")
    )
    assert [placed.thing for placed in scene.objects] == ["cat", "dog"]
    assert [mention.thing for mention in meaning.mentions] == ["cat", "dog"]


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="no family of scenes 'three'"):
        compose("three", random.Random(0), split="train", colour=0.0, background=0.0)
