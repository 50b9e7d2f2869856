from __future__ import annotations

import itertools
from collections import Counter

import pytest

from bt_cli.scenes.backgrounds import BACKGROUNDS, DROWNED
from bt_cli.scenes.things import COLOURS, SPLITS, THING, THINGS, pair_split, partners


def test_there_are_as_many_things_as_places_on_the_grid():
    assert len(THINGS) == 132
    names = [name for thing in THINGS for name in thing.names]
    assert len(names) == len(set(names)), "a name for two things would make captions ambiguous"
    assert not set(names) & set(COLOURS), "a colour word must not name a thing"


def test_pairs_fall_apart_into_three_splits():
    counts = Counter(pair_split(a, b) for a, b in itertools.combinations(THING, 2))
    # 12 rows of C(11, 2) pairs, 11 columns of C(12, 2), all others.
    assert counts == {"test": 12 * 55, "val": 11 * 66, "train": 8646 - 660 - 726}


def test_the_split_of_a_pair_has_no_order():
    for a, b in itertools.islice(itertools.combinations(THING, 2), 0, None, 37):
        assert pair_split(a, b) == pair_split(b, a)


def test_a_thing_is_no_pair_with_itself():
    with pytest.raises(ValueError, match="'cat' is one thing"):
        pair_split("cat", "cat")


def test_the_demonstrated_pair_is_held_out():
    assert pair_split("cat", "dog") == "test"


@pytest.mark.parametrize("name", ["cat", "car", "circle"])
def test_partners_share_out_all_other_things(name: str):
    groups = [partners(name, split) for split in SPLITS]
    assert [len(group) for group in groups] == [110, 11, 10]
    assert frozenset.union(*groups) == set(THING) - {name}


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("cat", "cats"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("bus", "buses"),
        ("fox", "foxes"),
        ("church", "churches"),
        ("sheep", "sheep"),
        ("leaf", "leaves"),
        ("snowman", "snowmen"),
        ("tomato", "tomatoes"),
        ("strawberry", "strawberries"),
        ("trophy", "trophies"),
    ],
)
def test_plurals(name: str, plural: str):
    assert THING[name].plural(name) == plural


def test_the_plural_of_a_synonym_is_its_own():
    assert THING["rabbit"].plural("bunny") == "bunnies"


def test_natural_and_drowned_colours_are_known_colours():
    assert {thing.natural for thing in THINGS} - {None} <= set(COLOURS)
    assert set(DROWNED) == set(BACKGROUNDS)
    # Every background leaves enough colours to be seen before it.
    assert all(len(set(COLOURS) - drowned) >= 7 for drowned in DROWNED.values())
