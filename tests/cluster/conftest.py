"""Shards of small pictures, and what one process makes of them."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bt_cli.cluster.shard import ShardTask, shard_tasks
from bt_cli.cluster.worker import WorkerSettings, installed_extras
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.indexing.encoder import ModelEncoder
from bt_cli.inference.model import load

SHARDS, PICTURES = 4, 6


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of tar shards in the working directory; the last is a folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    names = []
    for shard in range(SHARDS):
        folder = tmp_path / f"s{shard}"
        folder.mkdir()
        for number in range(PICTURES):
            pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(folder / f"{number}.jpg")
        names.append(f"s{shard}")
        if shard < SHARDS - 1:
            with tarfile.open(f"s{shard}.tar", "w") as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, path.name)
            names[-1] += ".tar"
    return names


@pytest.fixture
def encoder() -> ModelEncoder:
    """The bundled checkpoint."""
    return ModelEncoder(load("tiny", device="cpu", threads=1))


@pytest.fixture
def settings(shards: list[str], encoder: ModelEncoder) -> WorkerSettings:
    """What every worker is told."""
    return WorkerSettings(
        os.getcwd(), "tiny", encoder.identity, device="cpu", threads=1, decoders=1, extras=installed_extras()
    )


def tasks_of(names: list[str], folder: str = "parts") -> list[ShardTask]:
    return shard_tasks(names, folder, Exclusion())


def bytes_of(folder: str) -> dict[str, bytes]:
    """Every file in a folder of parts, but for the hidden ones that a killed worker leaves for the next to sweep up."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name[0] != "."}


def rows_of(path: str | Path) -> dict[str, Any]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pydict()
