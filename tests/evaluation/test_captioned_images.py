"""The evaluation in one call gives what the command prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bt_cli


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """Twelve images of noise with a caption each, beside their file."""
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,thing number {number}")
    file = tmp_path / "captions.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_figures_are_the_commands(captions: Path, checkpoint_folder: Path, bt) -> None:
    model = bt_cli.load(str(checkpoint_folder), dtype="float32")
    outcome = bt_cli.evaluate(captions, model, candidates=10)
    options = ("--model", checkpoint_folder, "--dtype", "float32", "--rerank", "--candidates", "10", "--json")
    (printed,) = bt("eval", captions, *options).objects
    assert outcome.itc == pytest.approx(printed["itc"])
    assert outcome.itm == pytest.approx(printed["itm"])
    alone = bt_cli.evaluate(bt_cli.read_captions(captions), model, images=captions.parent)
    assert (alone.itc, alone.itm, alone.pairs) == (outcome.itc, None, 0)
    assert bt_cli.evaluate(captions, model, exhaustive=True).pairs == 144


def test_refusals_come_before_work(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(bt_cli.Misuse, match="exclude each other"):
        bt_cli.evaluate(captions, "tiny", candidates=10, exhaustive=True)
    with pytest.raises(bt_cli.Misuse, match="at least 10"):
        bt_cli.evaluate(captions, "tiny", candidates=3)
    with pytest.raises(bt_cli.NotFound, match="no such file"):
        bt_cli.evaluate(tmp_path / "none.csv", "tiny")
