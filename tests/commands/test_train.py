"""`bt train` from the outside: what it refuses, what it says, what it leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from captioned_folder import captioned_folder, small_network, small_recipe
from safetensors import safe_open

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.training.recipe import FINE_TUNING, suited_learning_rate

Bt = Callable[..., Any]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned_folder(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["CAPTIONS"], 2, "bt: --out DIR is needed: the folder that the trained checkpoint goes to\n"),
        (["--out", "OUT"], 2, "bt: name a caption file to train on, or a --recipe that draws its own scenes\n"),
        (
            ["CAPTIONS", "--out", "OUT", "--from-scratch", "c.json", "--model", "tiny"],
            2,
            "bt: --from-scratch trains a new network; it can't go with --model or --recipe\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT"],
            2,
            "bt: name a checkpoint to start from (--model tiny), or --from-scratch CONFIG.json\n",
        ),
        (["none.csv", "--out", "OUT", "--model", "CHECKPOINT"], 1, "bt: none.csv: no such file\n"),
        (
            ["CAPTIONS", "--out", "OUT", "--recipe", "nonsuch"],
            1,
            "bt: nonsuch: no such recipe, neither a file nor one of bt's own (tiny)\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT", "--from-scratch", "none.json"],
            1,
            "bt: none.json: no such file; --from-scratch needs a config.json\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT", "--model", "CHECKPOINT", "--dtype", "int8"],
            2,
            "bt: training computes in bfloat16 or float32, not in int8\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT", "--model", "CHECKPOINT", "--learning-rate", "-1"],
            1,
            "bt: options: stage 1 (fine-tune): learning_rate is -1.0, but has to be from 0 to 10\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT", "--model", "CHECKPOINT", "--freeze", "cross"],
            1,
            "bt: options: stage 1 (fine-tune): freeze names 'cross', but has to be text or vision\n",
        ),
        (
            ["CAPTIONS", "--out", "OUT", "--model", "CHECKPOINT", "--epochs", "nan"],
            1,
            "bt: options: stages 1: epochs is nan, but has to be a finite number\n",
        ),
    ],
)
def test_what_is_refused(
    bt: Bt,
    captions: Path,
    checkpoint_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"CAPTIONS": str(captions), "OUT": "out", "CHECKPOINT": str(checkpoint_folder)}
    ran = bt("train", *(places.get(argument, argument) for argument in arguments))
    assert (ran.code, ran.out, ran.err) == (code, "", message)
    assert not (tmp_path / "out").exists()


def test_captions_without_images_are_named_by_line(bt: Bt, checkpoint_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a cat\na dog\n")
    ran = bt("train", tmp_path / "texts.txt", "--model", checkpoint_folder, "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"bt: {tmp_path}/texts.txt:1: no image to this caption; training needs pairs\n"


def test_fine_tuning_as_json(bt: Bt, captions: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    options = ["--steps", "4", "--batch-size", "4", "--dtype", "float32", "--validation", captions, "--keep", "last"]
    command = ["train", captions, "--model", checkpoint_folder, "--out", tmp_path / "out", *options, "--json"]
    ran = bt(*command)
    rate = "bt: learning rate 0.001, as suits a network of width 64; --learning-rate sets another\n"
    few = (
        "bt: only 12 images are held out, too few to tell good weights from lucky ones (50 are enough): "
        "--validation-share, --validation FILE or --keep last\n"
    )
    assert (ran.code, ran.err) == (0, rate + few + "bt: stage 1 of 1: fine-tune\n")
    *steps, last = ran.objects
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert set(steps[0]) == {"step", "steps", "stage", "itc", "itm", "mlm", "images_per_second", "seconds_left"}
    assert (last["out"], last["steps"], last["images"], last["kept_step"]) == (str(tmp_path / "out"), 4, 16, 4)
    assert set(last["metrics"]) >= {"ir@1", "tr@10", "recall", "itm/negative"}
    described = bt("models", "info", tmp_path / "out", "--json").objects[0]
    assert set(described["heads"]) == {"itc", "itm", "mlm"}
    again = bt(*command)
    assert (again.code, again.err) == (0, rate + "bt: going on after step 4 of 4\n" + few)
    assert [line["steps"] for line in again.objects] == [4]


def test_the_options_defaults_are_the_fine_tuning_recipe(
    bt: Bt, captions: Path, checkpoint_folder: Path, tmp_path: Path
) -> None:
    options = ["--model", checkpoint_folder, "--steps", "1", "--batch-size", "4", "--dtype", "float32"]
    ran = bt("train", captions, "--out", tmp_path / "out", *options, "--validation-share", "0")
    assert ran.code == 0, ran.err
    (stage,) = FINE_TUNING.stages
    stage = replace(stage, steps=1, batch=4, rates=replace(stage.rates, learning_rate=suited_learning_rate(64)))
    wanted = replace(FINE_TUNING, dtype="float32", validate_every=1, stages=(stage,))
    assert about_run(tmp_path / "out")["recipe"] == wanted.to_dict()


def test_images_that_are_missing_or_broken_are_skipped_and_named(
    bt: Bt, checkpoint_folder: Path, tmp_path: Path
) -> None:
    captions = captioned_folder(tmp_path / "images")
    (tmp_path / "images" / "red-blue.png").write_bytes(b"no image")
    with open(captions, "a") as file:
        file.write("gone.png,nothing there,\n")
    options = ["--model", checkpoint_folder, "--steps", "4", "--batch-size", "4", "--device", "cpu", "--json"]
    ran = bt("train", captions, "--out", tmp_path / "out", *options, "--validation-share", "0")
    assert ran.code == 0, ran.err
    remarks = ran.err.splitlines()
    assert f"bt: skipped {captions}:14: its image gone.png is not below {captions.parent}" in remarks
    assert f"bt: skipped {captions.parent}/red-blue.png: not an image that can be read" in remarks
    assert sum("skipped" in line for line in remarks) == ran.objects[-1]["skipped"] == 2
    strict = bt("train", captions, "--out", tmp_path / "strict", *options, "--strict")
    assert (strict.code, strict.out) == (1, "")
    assert strict.err == f"bt: {captions}:14: its image gone.png is not below {captions.parent}\n"
    nowhere = bt("train", captions, "--out", tmp_path / "none", *options, "--images", checkpoint_folder)
    assert nowhere.code == 1
    assert nowhere.err.endswith(f"none of its 13 images is below {checkpoint_folder}; --images names their folder\n")


def test_from_scratch_for_people(bt: Bt, captions: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(small_network()))
    ran = bt(
        *("train", captions, "--from-scratch", tmp_path / "config.json", "--out", tmp_path / "out"),
        *("--epochs", "2", "--batch-size", "4", "--freeze", "vision", "--crop", "0.6", "--checkpoint-layers"),
        *("--accumulate", "2", "--seed", "1", "--save-dtype", "bfloat16"),
    )
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'out'}\n")
    rate, few, first, *_, progress, summary = ran.err.splitlines()  # more lines where the machine is slow
    assert rate.startswith("bt: learning rate 0.001, as suits a network of width 64;")
    assert few.startswith("bt: only 1 image is held out, too few")
    assert first == "bt: stage 1 of 1: fine-tune"
    assert progress.startswith("bt: step 3 of 3 (fine-tune): itc ")
    assert summary.startswith("bt: 3 steps, 24 images in ")
    assert "; kept step " in summary
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        *("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("vocab.json", "merges.txt", "training"),
    }
    assert {"state.safetensors", "log.jsonl", "losses.svg"} <= {
        p.name for p in (tmp_path / "out" / "training").iterdir()
    }


def test_a_network_that_is_named_beats_the_model_of_the_environment(
    bt: Bt, captions: Path, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, recipe = tmp_path / "config.json", tmp_path / "recipe.json"
    config.write_text(json.dumps(small_network()))
    recipe.write_text(json.dumps(small_recipe(stages=[{"steps": 1, "batch": 4}])))
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    options = ["--device", "cpu", "--json", "--steps", "1", "--batch-size", "4"]
    for name, start, given in (("--from-scratch", config, options), ("--recipe", recipe, options[:3])):
        ran = bt("train", captions, name, start, "--out", tmp_path / name, *given)
        assert ran.code == 0, ran.err
        assert json.loads((tmp_path / name / "config.json").read_text())["text_config"]["hidden_size"] == 64
        assert start_of(tmp_path / name) == "nothing"
    assert bt("train", captions, "--out", tmp_path / "tuned", *options).code == 0
    assert start_of(tmp_path / "tuned").startswith(str(checkpoint_folder))


def test_from_scratch_in_another_image_size(bt: Bt, captions: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(small_network()))
    ran = bt(
        *("train", captions, "--from-scratch", tmp_path / "config.json", "--out", tmp_path / "out"),
        *("--image-size", "32", "--steps", "1", "--batch-size", "4", "--device", "cpu"),
    )
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vision_config"]["image_size"] == 32
    drawn = bt("train", "--recipe", "tiny", "--out", tmp_path / "drawn", "--image-size", "32")
    assert (drawn.code, drawn.out) == (2, "")
    assert "--image-size: the recipe's scenes are drawn in a size of their own" in drawn.err


def about_run(out: Path) -> dict[str, Any]:
    """What the run's state says of it: its recipe, where it stands, what it started from."""
    with safe_open(out / "training" / "state.safetensors", framework="pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()["run"])
        return about


def start_of(out: Path) -> str:
    """What the run says that it started from."""
    return str(about_run(out)["start"])


def test_the_best_way_of_ordering_pairs_is_measured_and_kept(
    bt: Bt, captions: Path, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bt_cli.training.trainer.LEAST_IMAGES", 12)
    monkeypatch.setattr("bt_cli.training.trainer.best_combination", lambda measured: "itm+itc")
    options = ["--steps", "1", "--batch-size", "4", "--dtype", "float32", "--validation", captions, "--mlm", "0"]
    out = tmp_path / "out"
    ran = bt("train", captions, "--model", checkpoint_folder, "--out", out, *options)
    assert ran.code == 0, ran.err
    said = re.search(
        r"mean recall of the held-out part by itm [\d.]+ %, itm\+itc [\d.]+ %, itc [\d.]+ %; (.*)", ran.err
    )
    assert said is not None, ran.err
    assert said[1] == "--rerank ranks by itm+itc unless --combine says otherwise"
    assert json.loads((out / "config.json").read_text())["bt_combine"] == "itm+itc"
    assert Checkpoint.open(out).combine == "itm+itc"
    assert Checkpoint.open(checkpoint_folder).combine == "itm"
    ask = ["eval", captions, "--model", out, "--dtype", "float32", "--rerank", "--candidates", "10"]
    found = bt(*ask, "--json")
    assert found.objects[0]["combine"] == "itm+itc"
    assert "ranked by itm+itc, as the checkpoint keeps as its best: evaluated" in found.err
    asked = bt(*ask, "--combine", "itm", "--json")
    assert asked.objects[0]["combine"] == "itm"
    assert "ranked by itm: evaluated" in asked.err
    alone = bt(*ask, "--combine", "itc", "--json").objects[0]
    assert (alone["pairs"], alone["itm"]["ir@1"]) == (0, alone["itc"]["ir@1"])
    # Trained on, the weights are others, and too few are held out to measure them.
    monkeypatch.setattr("bt_cli.training.trainer.LEAST_IMAGES", 13)
    again = bt("train", captions, "--model", out, "--out", tmp_path / "again", *options)
    assert again.code == 0, again.err
    assert Checkpoint.open(tmp_path / "again").combine == "itm"
