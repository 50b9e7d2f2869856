"""The best way to combine scores, kept in config.json: ours alone reads it, and nobody stumbles over it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from random_checkpoint import random_checkpoint
from transformers import BridgeTowerConfig, BridgeTowerForImageAndTextRetrieval

import bt_cli
from bt_cli.checkpoints.combination import KEY


def test_transformers_loads_a_checkpoint_that_keeps_it(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "c", heads=("itm",))
    plain = BridgeTowerForImageAndTextRetrieval.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, KEY: "itm+itc"}))
    kept = BridgeTowerForImageAndTextRetrieval.from_pretrained(folder)
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in plain.state_dict().items())
    assert getattr(BridgeTowerConfig.from_pretrained(folder), KEY) == "itm+itc"
    kept.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())[KEY] == "itm+itc"
    assert bt_cli.BridgeTowerConfig.from_pretrained(folder).to_dict()[KEY] == "itm+itc"
