"""A checkpoint of random weights in the shape of the official base model, with every head, in a cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.initialisation import initialise
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.checkpoints.saving import save_checkpoint
from bt_cli.preprocessing.image_processor import ImageProcessor

HEADS = ("itm", "mlm", "itc", "itc_cross")
DIMENSION = 512


def cache_folder() -> Path:
    """Where benchmarks keep what they build: BT_BENCH_CACHE, else ~/.cache/bt-benchmarks."""
    return Path(os.environ.get("BT_BENCH_CACHE") or Path.home() / ".cache" / "bt-benchmarks")


def base_checkpoint() -> Path:
    """The folder, built when it is not there yet (1.5 GB)."""
    folder = cache_folder() / "base-random"
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        config = BridgeTowerConfig.from_dict({"contrastive_hidden_size": DIMENSION})
        network = BridgeTower(config, heads=HEADS)
        initialise(network)
        with torch.no_grad():  # biases and norms that do something
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        save_checkpoint(network, folder, image_processor=ImageProcessor.from_dict({"size": 288, "crop_size": 288}))
    return folder
