from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from bt_cli.errors import BadConfig
from bt_cli.scenes import SceneBatch, SceneSampler, SpriteSheet, vocabulary_captions
from bt_cli.scenes.sampler import group_of
from bt_cli.scenes.things import COLOURS, THINGS, pair_split


def same(a: SceneBatch, b: SceneBatch) -> bool:
    return (
        bool((a.pixels == b.pixels).all())
        and bool((a.groups == b.groups).all())
        and (a.captions, a.negatives, a.spans, a.scenes, a.meanings)
        == (b.captions, b.negatives, b.spans, b.scenes, b.meanings)
    )


def test_a_step_is_the_same_whatever_came_before(sheet: SpriteSheet):
    sampler = SceneSampler(sheet=sheet, seed=4)
    batches = [sampler.batch(12) for _ in range(3)]
    assert sampler.step == 3
    resumed = SceneSampler(sheet=sheet, seed=4)
    resumed.step = 2
    assert same(resumed.batch(12), batches[2])
    assert same(resumed.batch(12, step=1), batches[1])
    assert resumed.step == 3, "a batch that is asked for by number leaves the counter alone"


def test_seeds_splits_and_steps_differ(sheet: SpriteSheet):
    texts = [
        tuple(SceneSampler(sheet=sheet, seed=seed, split=split).batch(8, step=step).captions)
        for seed, split, step in ((0, "train", 0), (0, "train", 1), (1, "train", 0), (0, "val", 0), (0, "test", 0))
    ]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("size", [48, 96, 144])
def test_shapes_and_types(sheet: SpriteSheet, size: int):
    batch = SceneSampler(size, sheet=sheet).batch(5)
    assert batch.pixels.shape == (5, size, size, 3)
    assert batch.pixels.dtype == np.uint8
    assert batch.groups.dtype == np.int64
    assert len(batch) == len(batch.captions) == len(batch.negatives) == len(batch.spans) == 5
    assert len(batch.scenes) == len(batch.meanings) == 5


def test_the_mix_is_kept(sheet: SpriteSheet):
    batch = SceneSampler(16, sheet=sheet, mix={"relation": 3, "count": 1, "many": 0}).batch(400)
    shown = Counter(scene.family for scene in batch.scenes)
    assert set(shown) == {"relation", "count"}
    assert shown["relation"] == pytest.approx(300, abs=45)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_batch_shows_a_pair_of_another_split(sheet: SpriteSheet, split: str):
    batch = SceneSampler(16, sheet=sheet, split=split).batch(200)
    for scene in batch.scenes:
        shown = sorted({placed.thing for placed in scene.objects})
        assert all(pair_split(a, b) == split for i, a in enumerate(shown) for b in shown[:i])


def test_every_thing_is_seen_in_training(sheet: SpriteSheet):
    batch = SceneSampler(8, sheet=sheet, mix={"one": 1}, jitter=False).batch(1300)
    assert {scene.objects[0].thing for scene in batch.scenes} == {thing.name for thing in THINGS}


def test_truth_is_what_each_caption_says_of_each_picture(sheet: SpriteSheet):
    batch = SceneSampler(16, sheet=sheet, split="test").batch(160)
    expected = [[meaning.holds(scene) for meaning in batch.meanings] for scene in batch.scenes]
    truth = batch.truth()
    assert truth.dtype == bool
    assert truth.tolist() == expected
    assert truth.diagonal().all()
    assert truth.sum() > len(batch), "otherwise this batch has tested nothing beside the diagonal"


def test_groups_are_equal_where_meanings_are(sheet: SpriteSheet):
    batch = SceneSampler(16, sheet=sheet, mix={"one": 1, "relation": 1}, colour=0.0).batch(300)
    keys = [meaning.key() for meaning in batch.meanings]
    assert len(set(keys)) < len(keys)
    for i, key in enumerate(keys):
        assert [batch.groups[i] == group for group in batch.groups] == [key == other for other in keys]


def test_a_group_is_a_fixed_number():
    # Written to captions.csv, so it must not depend on the run or the machine.
    from bt_cli.scenes.scene import Meaning, Mention

    assert group_of(Meaning((Mention("cat"), Mention("dog")), "left")) == 7115020437487529770
    assert group_of(Meaning((Mention("dog"), Mention("cat")), "right")) == 7115020437487529770


def test_spans_fit_their_captions(sheet: SpriteSheet):
    batch = SceneSampler(16, sheet=sheet, colour=1.0, mix={"relation": 1}).batch(50)
    for caption, spans in zip(batch.captions, batch.spans, strict=True):
        words = {caption[start:end] for start, end, role in spans if role == "relation"}
        assert len(words) == 1
        assert words <= {"left", "right", "above", "over", "below", "under"}
        assert {caption[start:end] for start, end, role in spans if role == "colour"} <= set(COLOURS)


def test_negatives_are_drawn_by_kind(sheet: SpriteSheet):
    batch = SceneSampler(16, sheet=sheet, mix={"relation": 1}, colour=1.0).batch(4)
    rng = random.Random(0)
    drawn = Counter(batch.negative(0, rng, {"mirror": 0.8, "object": 0.2, "count": 5.0}).kind for _ in range(1000))
    assert set(drawn) == {"mirror", "object"}, "a relation has no count to be wrong"
    assert drawn["mirror"] == pytest.approx(800, abs=60)
    assert {batch.negative(0, rng).kind for _ in range(200)} == {negative.kind for negative in batch.negatives[0]}
    only_counts = {batch.negative(0, rng, {"count": 1.0}).kind for _ in range(200)}
    assert only_counts == {negative.kind for negative in batch.negatives[0]}


def test_jitter_is_faint_and_can_be_left_out(sheet: SpriteSheet):
    plain = SceneSampler(sheet=sheet, jitter=False).batch(20, step=0)
    again = SceneSampler(sheet=sheet, jitter=False).batch(20, step=0)
    assert (plain.pixels == again.pixels).all()
    lit = SceneSampler(sheet=sheet).batch(20, step=0)
    assert lit.captions[0] == plain.captions[0]
    difference = lit.pixels[0].astype(int) - plain.pixels[0]
    assert 0 < np.abs(difference).mean() < 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mix": {"three": 1.0}}, "no family of scenes 'three'; there are one, one-position, two"),
        ({"mix": {}}, "the mix of scenes needs weights"),
        ({"mix": {"one": 0.0}}, "not all 0"),
        ({"mix": {"one": -1.0, "two": 3.0}}, "weights of 0 and more"),
        ({"split": "dev"}, "no split 'dev'; there are train, val, test"),
        ({"colour": 1.5}, "colour is a share from 0 to 1, not 1.5"),
        ({"synonyms": -0.1}, "synonyms is a share from 0 to 1, not -0.1"),
    ],
)
def test_impossible_settings_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(BadConfig) as caught:
        SceneSampler(sheet=SpriteSheet({}), **arguments)
    assert message in str(caught.value)


def test_the_vocabulary_holds_every_word(sheet: SpriteSheet):
    words = {word.strip(",") for text in vocabulary_captions(8000) for word in text.split()}
    batch = SceneSampler(16, sheet=sheet, split="test", seed=9, synonyms=0.3).batch(400)
    assert {word.strip(",") for text in batch.captions for word in text.split()} <= words
    assert {name for thing in THINGS for name in thing.names} <= words
    assert set(COLOURS) <= words
    assert len(words) < 420
    assert vocabulary_captions(50, seed=1) == vocabulary_captions(50, seed=1)
