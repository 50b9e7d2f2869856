"""`bt models`: whole outputs, exit codes and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.fake_hub import FakeHub
from random_checkpoint import random_checkpoint, sparse_checkpoint

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.hub.model_names import PARAMETERS

Bt = Callable[..., Any]

LINES = """\
name                                         where       size  for
tiny                                         bundled  0.01 GB  trying bt out: knows drawn scenes, no photographs
BridgeTower/bridgetower-base                 hub      1.31 GB  training from: base, no heads
BridgeTower/bridgetower-base-itm-mlm         hub      1.46 GB  reranking and masked words, on small machines
BridgeTower/bridgetower-large-itm-mlm        hub      3.67 GB  reranking and masked words
BridgeTower/bridgetower-large-itm-mlm-gaudi  hub      3.67 GB  the same, trained on Gaudi
BridgeTower/bridgetower-large-itm-mlm-itc    hub      3.68 GB  index and search; reranks, too
"""


@pytest.fixture
def served(checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one checkpoint, `someone/tower`."""
    from huggingface_hub import constants

    with FakeHub({"someone/tower": checkpoint_folder}) as running:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running


def test_list_names_what_is_bundled_and_official(bt: Bt) -> None:
    ran = bt("models", "list")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out == LINES


def test_sizes_of_the_hub_are_those_of_the_published_configurations(reference: Path) -> None:
    from bt_cli.bridgetower.configuration import BridgeTowerConfig
    from bt_cli.bridgetower.network import BridgeTower

    for name, parameters in PARAMETERS.items():
        folder = name.rpartition("/")[2]
        config = BridgeTowerConfig.from_dict(
            json.loads((reference / "hub_configs" / folder / "config.json").read_text())
        )
        heads = ("itm", "mlm", "itc", "itc_cross") if "itc" in folder else ("itm", "mlm") if "itm" in folder else ()
        with torch.device("meta"):
            network = BridgeTower(config, heads=heads)
        assert sum(each.numel() for each in network.parameters()) == parameters, name


def test_list_names_what_is_cached(bt: Bt, served: FakeHub) -> None:
    assert bt("models", "download", "someone/tower").code == 0
    ran = bt("models", "list", "--json")
    assert ran.objects[1] | {"bytes": 0} == {"name": "someone/tower", "where": "cached", "bytes": 0, "note": ""}
    assert ran.objects[1]["bytes"] > Path(served.repositories["someone/tower"] / "model.safetensors").stat().st_size
    assert [row["where"] for row in ran.objects] == ["bundled", "cached", *["hub"] * 5]


def test_info_describes_a_folder(bt: Bt, checkpoint_folder: Path) -> None:
    checkpoint = Checkpoint.open(checkpoint_folder)
    ran = bt("models", "info", checkpoint_folder, "--json")
    assert ran.code == 0
    assert ran.err == ""
    names = [
        "model.safetensors",
        "config.json",
        "merges.txt",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocab.json",
    ]
    assert ran.objects == [
        {
            "name": str(checkpoint_folder),
            "heads": ["itc", "itm", "mlm"],
            "parameters": 574_248,
            "image_size": 64,
            "embedding_dim": 32,
            "fingerprint": checkpoint.fingerprint,
            "dtype": "float32",
            "images": "crop 64x64 bicubic",
            "text_tokens": 64,
            "tokenizer": True,
            "files": [
                {"path": str(checkpoint_folder / name), "bytes": (checkpoint_folder / name).stat().st_size}
                for name in names
            ],
        }
    ]


def test_info_for_people(bt: Bt, tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "reranker", heads=("itm",))
    ran = bt("models", "info", folder)
    assert ran.code == 0
    assert ran.out.splitlines()[:8] == [
        f"name           {folder}",
        "heads          ITM (matching)",
        "parameters     544,706 (float32)",
        "image size     64 x 64",
        "images         crop 64x64 bicubic",
        "text           up to 64 tokens",
        "embedding dim  none",
        f"fingerprint    {Checkpoint.open(folder).fingerprint}",
    ]
    assert ran.out.splitlines()[8].startswith(f"files          {folder}/model.safetensors (")


def test_download_prints_the_folder_and_is_idempotent(bt: Bt, served: FakeHub) -> None:
    first = bt("models", "download", "someone/tower")
    assert first.code == 0
    assert first.err.startswith("bt: downloading someone/tower: 2 MB to ")
    folder = Path(first.out.removesuffix("\n"))
    assert (folder / "model.safetensors").is_file()
    sent = served.sent
    again = bt("models", "download", "someone/tower", "--json")
    assert again.objects == [{"name": "someone/tower", "folder": str(folder)}]
    assert again.err == ""
    assert served.sent == sent
    served.stop()
    assert bt("models", "info", "someone/tower", "--json").objects[0]["heads"] == ["itc", "itm", "mlm"]


def test_what_is_here_already_is_not_downloaded(bt: Bt, checkpoint_folder: Path) -> None:
    ran = bt("models", "download", checkpoint_folder)
    assert (ran.code, ran.out) == (0, f"{checkpoint_folder}\n")
    assert ran.err == f"bt: {checkpoint_folder} is on this machine already\n"


def test_errors_are_one_line_and_exit_1(bt: Bt, served: FakeHub, tmp_path: Path) -> None:
    cases = {
        ("info", "no/body"): f"no checkpoint no/body at {served.url}; `bt models list` shows names that work",
        ("info", "tini"): "no checkpoint is called tini; did you mean tiny?",
        ("download", "./gone"): "no checkpoint folder ./gone",
        ("convert", tmp_path / "no.ckpt", tmp_path / "x"): f"{tmp_path / 'no.ckpt'}: no such file",
    }
    for arguments, message in cases.items():
        ran = bt("models", *arguments)
        assert (ran.code, ran.out, ran.err) == (1, "", f"bt: {message}\n")


def test_misuse_exits_2(bt: Bt, tmp_path: Path) -> None:
    ran = bt("models", "convert", "a.ckpt", "b", "--pipeline", "stretch")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: --pipeline is stretch; it has to be crop or squash\n"
    assert bt("models", "convert", "a.ckpt", "b", "--image-size", "0").code == 2
    assert bt("models", "info").code == 2


def test_convert_writes_a_checkpoint_and_says_what_it_left_out(bt: Bt, reference: Path, tmp_path: Path) -> None:
    file, out = reference / "original" / "A_full.ckpt", tmp_path / "converted"
    ran = bt("models", "convert", file, out, "--image-size", "96", "--json")
    assert ran.code == 0
    assert ran.err == (
        f"bt: {file}: left out, as nothing here uses it: rank_output\n"
        "bt: no tokenizer at hand: put the tokenizer.json, or vocab.json and merges.txt, of roberta-base into "
        f"{out}, or convert again with --tokenizer FOLDER\n"
    )
    (facts,) = ran.objects
    assert (facts["heads"], facts["image_size"], facts["embedding_dim"]) == (["itc", "itm", "mlm"], 96, 48)
    assert (facts["parameters"], facts["tokenizer"]) == (3_448_491, False)
    assert json.loads((out / "config.json").read_text())["itc_image_path"] == "tower"


def test_convert_takes_the_tokenizer_that_is_given(bt: Bt, reference: Path, tmp_path: Path) -> None:
    ran = bt(
        "models",
        "convert",
        reference / "original" / "A_full.ckpt",
        tmp_path / "x",
        "--tokenizer",
        reference / "roberta",
    )
    assert ran.code == 1
    assert "has 200 words, the tokenizer 50265; they are not of one model" in ran.err
    assert not (tmp_path / "x").exists()


PUBLISHED = [
    ("bridgetower-base", (), [], 326_347_008, 288, None),
    ("bridgetower-base-itm-mlm", ("itm", "mlm"), ["itm", "mlm"], 365_595_995, 288, None),
    ("bridgetower-large-itm-mlm", ("itm", "mlm"), ["itm", "mlm"], 917_091_419, 294, None),
    ("bridgetower-large-itm-mlm-gaudi", ("itm", "mlm"), ["itm", "mlm"], 917_091_419, 294, None),
    ("bridgetower-large-itm-mlm-itc", ("itc", "itc_cross"), ["itc"], 866_612_737, 294, 512),
]


@pytest.mark.parametrize(("name", "built", "heads", "parameters", "size", "dimension"), PUBLISHED)
def test_info_knows_the_published_shapes(
    bt: Bt,
    reference: Path,
    tmp_path: Path,
    name: str,
    built: tuple[str, ...],
    heads: list[str],
    parameters: int,
    size: int,
    dimension: int | None,
) -> None:
    folder = sparse_checkpoint(tmp_path / name, reference / "hub_configs" / name, built)
    ran = bt("models", "info", folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    (facts,) = ran.objects
    assert facts["name"] == str(folder)
    assert facts["heads"] == heads
    assert facts["parameters"] == parameters
    assert facts["image_size"] == size
    assert facts["images"] == f"crop {size}x{size} bicubic"
    assert facts["embedding_dim"] == dimension
    assert facts["tokenizer"] is False
