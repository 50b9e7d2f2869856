"""Whole runs: stopped and resumed, killed, shared among processes, and good for something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned_folder import captioned_folder, small_recipe
from safetensors import safe_open
from safetensors.torch import save_file

from bt_cli.captions.captions import Caption, read_captions
from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.errors import BadConfig, NotFound, UnreadableImage, Unwritable
from bt_cli.training.distributed import Ranks
from bt_cli.training.recipe import Recipe
from bt_cli.training.run import Run, caption_run
from bt_cli.training.run_state import read_log
from bt_cli.training.trainer import Trainer, require_plain_files

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned_folder(tmp_path_factory.mktemp("images"))


def make_run(recipe: Recipe, captions: Path, out: Path) -> Run:
    items = read_captions(captions, images=captions.parent).items
    return caption_run(recipe, items, items, out, CPU, Ranks(), workers=1)


def losses(out: Path) -> list[dict[str, Any]]:
    """The log without the clock's part."""
    lines = read_log(out / "training" / "log.jsonl")
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_a_run_in_pieces_has_the_losses_and_weights_of_a_run_in_one(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    whole = Trainer(recipe, make_run(recipe, captions, tmp_path / "whole"))
    outcome = whole.train()
    assert (outcome.steps, outcome.images) == (12, 5 * 4 + 7 * 8)
    for piece in (3, 4, 100):  # the second ends within the second stage
        pieces = Trainer(recipe, make_run(recipe, captions, tmp_path / "pieces"))
        pieces.train(stop_after=piece)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")
    assert [line["step"] for line in losses(tmp_path / "whole") if "loss" in line] == list(range(1, 13))
    for name, weight in whole.weights.weights().items():
        assert torch.equal(weight, pieces.weights.weights()[name]), name


def test_a_stage_without_a_dropout_has_the_configs_whatever_came_before(captions: Path, tmp_path: Path) -> None:
    first, second = small_recipe()["stages"]
    stages = [{**first, "dropout": 0.5}, second]
    recipe = Recipe.from_dict(small_recipe(stages=stages))
    Trainer(recipe, make_run(recipe, captions, tmp_path / "whole")).train()
    for piece in (5, 100):  # the second piece begins where the second stage does
        Trainer(recipe, make_run(recipe, captions, tmp_path / "pieces")).train(stop_after=piece)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")


def test_an_unreadable_image_leaves_a_run_in_pieces_the_losses_of_one(tmp_path: Path) -> None:
    captions = captioned_folder(tmp_path / "images")
    (tmp_path / "images" / "red-blue.png").write_bytes(b"no image")
    recipe = Recipe.from_dict(small_recipe())
    items = read_captions(captions, images=captions.parent).items
    said: list[str] = []

    def run(name: str) -> Run:
        return caption_run(
            recipe,
            items,
            items,
            tmp_path / name,
            CPU,
            Ranks(),
            workers=2,
            on_skip=lambda error: said.append(str(error)),
        )

    Trainer(recipe, run("whole")).train()
    assert said == [f"{captions.parent}/red-blue.png: not an image that can be read"] * 2  # held out, and trained on
    for piece in (3, 100):
        Trainer(recipe, run("pieces")).train(stop_after=piece)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")
    with pytest.raises(UnreadableImage, match=r"red-blue\.png"):
        caption_run(recipe, items, items, tmp_path / "strict", CPU, Ranks())


def test_the_largest_seed_is_one(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe(seed=(1 << 63) - 1))
    assert Trainer(recipe, make_run(recipe, captions, tmp_path)).train(stop_after=1).steps == 1


def test_another_recipe_is_no_continuation_but_stages_to_come_may_change(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    Trainer(recipe, make_run(recipe, captions, tmp_path)).train(stop_after=10)
    for changed, what in (
        (replace(recipe, seed=4), "seed"),
        (replace(recipe, stages=(replace(recipe.stages[0], batch=6), recipe.stages[1])), r"stage 1 \(first\)"),
        (replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], steps=9))), r"stage 2 \(second\)"),
    ):
        with pytest.raises(BadConfig, match=f"begun with another {what}; choose another --out"):
            Trainer(changed, make_run(changed, captions, tmp_path))
    longer = replace(recipe, stages=(*recipe.stages, replace(recipe.stages[0], name="third")))
    assert Trainer(longer, make_run(longer, captions, tmp_path)).position.step == 10


def test_a_state_in_the_words_of_earlier_versions_is_gone_on_from(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    Trainer(recipe, make_run(recipe, captions, tmp_path)).train(stop_after=3)
    path = tmp_path / "training" / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["run"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about["position"]["pictures"] = about["position"].pop("images")
    for stage in about["recipe"]["stages"]:
        stage["matching"]["handmade"] = stage["matching"].pop("given_share")
    save_file(tensors, path, {"run": json.dumps(about)})
    position = Trainer(recipe, make_run(recipe, captions, tmp_path)).position
    assert (position.step, position.images) == (3, 12)


def test_other_captions_are_no_continuation(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    items = read_captions(captions, images=captions.parent).items

    def run(items: list[Caption]) -> Run:
        return caption_run(recipe, items, [], tmp_path, CPU, Ranks(), workers=1)

    Trainer(recipe, run(items)).train(stop_after=1)
    for others in (items[1:], [replace(items[0], text="another"), *items[1:]], items[::-1]):
        with pytest.raises(BadConfig, match="begun with other captions, .*; choose another --out"):
            Trainer(recipe, run(others))
    seed = replace(recipe, seed=4)  # which holds other captions back
    with pytest.raises(BadConfig, match="begun with another seed"):
        Trainer(seed, caption_run(seed, items[1:], [], tmp_path, CPU, Ranks(), workers=1))
    moved = [replace(item, image=f"elsewhere/{item.image}") for item in items]
    assert Trainer(recipe, run(moved)).position.step == 1


def test_the_present_stage_may_get_another_length_until_its_rate_has_depended_on_it(
    captions: Path, tmp_path: Path
) -> None:
    rates = {"learning_rate": 1e-3, "warmup": 1, "decay": 0.5}
    recipe = Recipe.from_dict(small_recipe(stages=[{"name": "only", "steps": 8, "batch": 4, "rates": rates}]))
    shorter = replace(recipe, stages=(replace(recipe.stages[0], steps=6),))
    Trainer(shorter, make_run(shorter, captions, tmp_path / "one")).train()
    Trainer(recipe, make_run(recipe, captions, tmp_path / "two")).train(stop_after=3)
    Trainer(shorter, make_run(shorter, captions, tmp_path / "two")).train()
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    Trainer(recipe, make_run(recipe, captions, tmp_path / "three")).train(stop_after=5)
    with pytest.raises(BadConfig, match=r"begun with another stage 1 \(only\)"):
        Trainer(shorter, make_run(shorter, captions, tmp_path / "three"))


def test_training_learns_the_images_and_leaves_a_checkpoint(captions: Path, tmp_path: Path) -> None:
    stage = {"steps": 150, "batch": 12, "dropout": 0.0, "losses": {"itc": 1.0, "itm": 1.0}}
    stage["rates"] = {"learning_rate": 5e-4, "cross_multiplier": 1.0, "head_multiplier": 1.0}
    stage["matching"] = {"negatives": 1, "given_share": 1.0}
    recipe = Recipe.from_dict(small_recipe(stages=[stage], keep="best", validate_every=50, dtype="bfloat16"))
    run = make_run(recipe, captions, tmp_path)
    outcome = Trainer(recipe, run).train()
    assert outcome.metrics is not None
    assert outcome.metrics["ir@5"] == 1.0
    assert outcome.metrics["recall"] > 0.8
    checkpoint = Checkpoint.open(str(tmp_path))
    assert checkpoint.heads == {"itc", "itc_cross", "itm", "mlm"}
    network = checkpoint.network()
    assert next(network.parameters()).dtype == torch.float32
    # Float32 masters, not the working weights: they hold more than bfloat16 does.
    weight = network.vision_tower.patch_embedding.weight
    assert not torch.equal(weight, weight.bfloat16().float())
    svg = (tmp_path / "training" / "losses.svg").read_text()
    assert svg.count("<polyline") == 3


def test_a_gradient_that_is_no_number_ends_the_run_before_anything_is_kept(captions: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(small_recipe(keep="best", validate_every=1, log_every=100))
    run = make_run(recipe, captions, tmp_path)
    trainer = Trainer(recipe, run)
    with torch.no_grad():
        next(run.network.parameters()).fill_(torch.nan)
    with pytest.raises(BadConfig, match="step 1: the norm of the gradient is nan; a lower learning rate"):
        trainer.train()
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "training" / "state.safetensors").exists()


def command(recipe: Path, captions: Path, out: Path) -> list[str]:
    arguments = [
        "train",
        str(captions),
        "--recipe",
        str(recipe),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    return ["-m", "bt_cli", *arguments, "--validation-share", "0", "--workers", "1"]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_losses(captions: Path, tmp_path: Path, isolated_home: Path) -> None:
    recipe = Recipe.from_dict(small_recipe())
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    whole, start = ([sys.executable, *command(path, captions, tmp_path / name)] for name in ("whole", "killed"))
    # By the same command: threads add up sums in another order, and the losses' last digits tell it.
    subprocess.run(whole, env=environment(isolated_home), capture_output=True, check=True)
    process = subprocess.Popen(start, env=environment(isolated_home), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "training" / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = [line for line in losses(tmp_path / "killed") if "loss" in line]
    assert len(seen) < 12
    done = subprocess.run(start, env=environment(isolated_home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bt: going on after step" in done.stderr
    resumed = [line for line in losses(tmp_path / "killed") if "loss" in line]
    assert resumed == [line for line in losses(tmp_path / "whole") if "loss" in line]


@pytest.mark.slow
def test_two_processes_train_as_one_does(captions: Path, tmp_path: Path, isolated_home: Path) -> None:
    # Hand-made wrong captions alone: hard ones are drawn among the rows of a process, so they differ by design.
    stages = [
        {**stage, "matching": {"negatives": 1, "given_share": 1.0}, "dropout": 0.0}
        for stage in small_recipe()["stages"]
    ]
    recipe = Recipe.from_dict(small_recipe(stages=stages))
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    alone = Trainer(recipe, make_run(recipe, captions, tmp_path / "alone"))
    alone.train()
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, *command(path, captions, tmp_path / "shared")],
        env=environment(isolated_home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one = [line for line in losses(tmp_path / "alone") if "loss" in line]
    two = [line for line in losses(tmp_path / "shared") if "loss" in line]
    for left, right in zip(one, two, strict=True):
        assert right.keys() == left.keys()
        for name in left.keys() - {"step", "stage"}:
            assert right.get(name) == pytest.approx(left.get(name), rel=1e-3, abs=1e-4), (left["step"], name)
    network = Checkpoint.open(str(tmp_path / "shared")).network()
    for name, weight in network.named_parameters():
        if weight.ndim > 1:  # a bias of keys has no gradient but rounding, which AdamW makes steps of
            assert torch.allclose(weight, alone.weights.weights()[name], atol=2e-4), name


@pytest.mark.parametrize("name", ["model.safetensors", "training/state.safetensors", "training/log.jsonl"])
def test_a_pipe_in_the_place_of_a_runs_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "README.md").write_text("mine")
    require_plain_files(tmp_path, tmp_path / "training", tmp_path / "none")
    os.mkfifo(tmp_path / name)
    with pytest.raises(Unwritable) as caught:
        require_plain_files(tmp_path, tmp_path / "training", tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / name}: a pipe or a device, and no file of a run; remove it"


@pytest.mark.parametrize("make", [None, Path.mkdir])
def test_a_run_whose_best_weights_are_gone_is_not_gone_on_with(
    captions: Path, tmp_path: Path, make: Callable[[Path], None] | None
) -> None:
    """No step to come may be better: the run would end well, and leave no weights."""
    recipe = Recipe.from_dict(small_recipe(keep="best", validate_every=2))
    Trainer(recipe, make_run(recipe, captions, tmp_path)).train(stop_after=3)
    Trainer(recipe, make_run(recipe, captions, tmp_path))
    (tmp_path / "model.safetensors").unlink()
    if make is not None:
        make(tmp_path / "model.safetensors")
    with pytest.raises(NotFound) as caught:
        Trainer(recipe, make_run(recipe, captions, tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: the weights of step 2, this run's best, are not there any more; bring them back, or remove "
        f"{tmp_path / 'training'} to start over"
    )
