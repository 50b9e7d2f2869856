"""Recipes: what a file may say, what is refused by name, and the schedule that follows from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from captioned_folder import small_recipe

from bt_cli.errors import BadConfig, NotFound
from bt_cli.training.recipe import Rates, Recipe, suited_learning_rate


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    assert Recipe.read(path) == recipe
    assert recipe.steps == 12
    assert [recipe.at(step) for step in (0, 4, 5, 11)] == [(0, 0), (0, 4), (1, 0), (1, 6)]


def test_the_bundled_recipe_is_a_curriculum_of_drawn_scenes() -> None:
    recipe = Recipe.read("tiny")
    assert recipe.source["kind"] == "scenes"
    assert recipe.network is not None
    assert len(recipe.stages) > 3
    assert set(recipe.stages[0].losses) == {"itc"}


def changed(path: str, value: Any) -> dict[str, Any]:
    values = small_recipe()
    target: Any = values
    *parents, last = path.split("/")
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
    target[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sead", 1, "recipe: unknown key 'sead'; it takes checkpoint_layers, "),
        ("seed", "1", "recipe: seed is '1', but has to be a whole number"),
        ("dtype", "float8", "recipe: dtype is 'float8', but has to be float32 or bfloat16"),
        ("keep", "all", "recipe: keep is 'all', but has to be best or last"),
        ("stages", [], "recipe: stages: has to be a list of stages"),
        ("stages/0/rates/learning_rat", 1, "recipe: stages 1: rates: unknown key 'learning_rat'; it takes betas, "),
        ("stages/1/losses", {"itm": 1, "vqa": 1}, "recipe: stage 2 (second): loss 'vqa', but has to be one of itc, "),
        ("stages/1/losses", {"itm": -1}, "recipe: stage 2 (second): weight of itm is -1, but has to be a number of "),
        ("stages/0/losses", {"itc": 0}, "recipe: stage 1 (first): no loss has a weight, but has to be at least one"),
        ("stages/0/losses", {"itc_cross": 1}, "recipe: stage 1 (first): itc_cross stands without itm, but has to be "),
        ("stages/0/steps", 0, "recipe: stage 1 (first): neither steps nor epochs are given, but has to be one of them"),
        ("stages/0/batch", 1, "recipe: stage 1 (first): batch is 1, but has to be from 2 to "),
        ("stages/0/freeze", ["cross"], "recipe: stage 1 (first): freeze names 'cross', but has to be text or vision"),
        ("stages/0/masking", {"rate": 1.5}, "recipe: stage 1 (first): masking rate is 1.5, but has to be from 0 to 1"),
        ("stages/0/augmentation", {"crop": [0.9, 0.5]}, "recipe: stage 1 (first): crop is [0.9, 0.5], but has to be "),
        (
            "stages/0/augmentation",
            {"crop": ["a", 1]},
            "recipe: stages 1: augmentation: crop: item 1 is 'a', but has to",
        ),
        (
            "stages/0/augmentation",
            {"crop": [1]},
            "recipe: stages 1: augmentation: crop is [1], but has to be a list of 2",
        ),
        (
            "stages/0/rates",
            {"betas": [1.5, 0.9]},
            "recipe: stage 1 (first): betas are [1.5, 0.9], but has to be two num",
        ),
        ("stages/0/rates", {"betas": ["a", 0.9]}, "recipe: stages 1: rates: betas: item 1 is 'a', but has to be a num"),
        ("stages/0/rates", {"betas": [0.9]}, "recipe: stages 1: rates: betas is [0.9], but has to be a list of 2"),
        ("stages/0/rates", {"epsilon": 0}, "recipe: stage 1 (first): epsilon is 0.0, but has to be above 0"),
        ("stages/0/rates", {"clip": -1}, "recipe: stage 1 (first): clip is -1.0, but has to be at least 0"),
        ("stages/0/rates", {"clip": math.nan}, "recipe: stages 1: rates: clip is nan, but has to be a finite number"),
        ("stages/0/rates", {"clip": 10**400}, "recipe: stages 1: rates: clip is 1000"),
        ("stages/0/rates", {"weight_decay": -1}, "recipe: stage 1 (first): weight_decay is -1.0, but has to be from 0"),
        ("stages/0/rates", {"weight_decay": math.inf}, "recipe: stages 1: rates: weight_decay is inf, but has to be a"),
        ("stages/0/rates", {"head_multiplier": -1}, "recipe: stage 1 (first): head_multiplier is -1.0, but has to be"),
        (
            "stages/0/rates",
            {"cross_multiplier": -1},
            "recipe: stage 1 (first): cross_multiplier is -1.0, but has to be",
        ),
        (
            "stages/0/losses",
            {"itc": math.nan},
            "recipe: stage 1 (first): weight of itc is nan, but has to be a number of",
        ),
        ("stages/0/losses", {"itc": "x"}, "recipe: stage 1 (first): weight of itc is 'x', but has to be a number of"),
        ("stages/0/matching", {"kinds": {"a": -1}}, "recipe: stage 1 (first): matching: weight of kind 'a' is -1, but"),
        (
            "stages/0/matching",
            {"kinds": {"a": "b"}},
            "recipe: stage 1 (first): matching: weight of kind 'a' is 'b', but",
        ),
        ("stages/0/masking", {"words": [1]}, "recipe: stages 1: masking: words: item 1 is 1, but has to be a text"),
        ("stages/0/freeze", [3], "recipe: stages 1: freeze: item 1 is 3, but has to be a text"),
        ("source", {"kind": "foo"}, "recipe: source: kind is 'foo', but has to be captions or scenes"),
        ("source", {"kind": []}, "recipe: source: kind is [], but has to be captions or scenes"),
        ("validate_every", -3, "recipe: validate_every is -3, but has to be at least 0"),
        ("log_every", 0, "recipe: log_every is 0, but has to be at least 1"),
        ("validation_items", 0, "recipe: validation_items is 0, but has to be at least 1"),
        ("state_seconds", -1, "recipe: state_seconds is -1.0, but has to be at least 0"),
        ("seed", -1, "recipe: seed is -1, but has to be from 0 to 9223372036854775807"),
        ("seed", 1 << 63, "recipe: seed is 9223372036854775808, but has to be from 0 to 9223372036854775807"),
        ("text_length", 10**9, "recipe: text_length is 1000000000, but has to be from 3 to 65536"),
    ],
)
def test_what_a_recipe_may_not_say_is_refused_by_name(path: str, value: Any, message: str) -> None:
    with pytest.raises(BadConfig) as refusal:
        Recipe.from_dict(changed(path, value))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such recipe"):
        Recipe.read(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"seed": ')
    with pytest.raises(BadConfig, match=r"broken\.json: not valid JSON"):
        Recipe.read(tmp_path / "broken.json")
    (tmp_path / "broken.json").write_text('{"seed": ' + "9" * 5000 + "}")
    with pytest.raises(BadConfig, match=r"broken\.json: not valid JSON"):
        Recipe.read(tmp_path / "broken.json")


def test_the_published_schedule_rises_for_a_tenth_and_then_falls() -> None:
    rates = Rates(learning_rate=1.0)
    curve = [rates.at(step, 100) for step in range(100)]
    assert curve[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(curve) == pytest.approx(0.91)
    assert curve[50] == pytest.approx(0.5)
    assert curve[99] == pytest.approx(0.01)


def test_a_late_decay_keeps_the_rate_until_then() -> None:
    rates = Rates(learning_rate=2.0, warmup=4, decay=0.3)
    curve = [rates.at(step, 10) for step in range(10)]
    assert curve == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 4 / 3, 2 / 3])


def test_a_rate_that_is_left_open_is_settled_by_the_width_and_a_given_one_stays() -> None:
    recipe = Recipe.from_dict({"stages": [{"steps": 1}, {"steps": 1, "rates": {"learning_rate": 2e-4}}]})
    assert [stage.rates.learning_rate for stage in recipe.stages] == [None, 2e-4]
    assert [stage.rates.learning_rate for stage in recipe.for_width(768).stages] == [1e-5, 2e-4]
    assert [suited_learning_rate(width) for width in (1024, 768, 128, 64)] == pytest.approx([1e-5, 1e-5, 3.6e-4, 1e-3])
    with pytest.raises(ValueError, match="not settled"):
        recipe.stages[0].rates.at(0, 1)
