"""The commands with what the package itself requires: no package that only the tests install is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("pandas", "polars", "duckdb", "scipy", "matplotlib", "skimage", "transformers", "peft", "ranx", "httpx2")
"""Of the development environment; pyarrow, for one, makes other values where pandas is there."""

COMMANDS = [
    ["index", "album", "--captions", "captions.csv"],
    ["index"],
    ["index", "--rebuild"],
    ["search", "a cat", "--rerank"],
    ["search", "a cat", "--to", "captions", "--json"],
    ["duplicates", "--near", "0.9"],
    ["label", "album", "--labels", "cat,dog", "-o", "labels.parquet"],
    ["encode", "images", "album", "-o", "x.parquet"],
    ["encode", "images", "album", "-o", "x.npy"],
    ["encode", "images", "album", "-o", "parts/"],
    ["index", "--tables", "parts/", "--index", "of-parts"],
    ["export", "--to", "npy", "-o", "all.npy"],
    ["export", "--to", "webdataset", "-o", "shards"],
    ["eval", "captions.csv", "--images", "album"],
    ["info", "--verify"],
]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures whose times of change have nanoseconds, as files that were just written have."""
    place = tmp_path_factory.mktemp("alone")
    (place / "album").mkdir()
    lines = ["image,caption"]
    for number in (1, 2, 5, 8):
        file = place / "album" / f"{number}.jpg"
        shutil.copy(ROOT / "sample_data" / "images" / f"scene-{number:04}.jpg", file)
        os.utime(file, ns=(1_795_657_370_464_844_121, 1_795_657_370_464_844_121 + number))
        lines.append(f"{number}.jpg,picture {number}")
    (place / "captions.csv").write_text("\n".join(lines) + "\n")
    return place


ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from bt_cli.commands.app import main

for command in {commands!r}:
    print("$", *command, main(command), file=sys.stderr)
"""


@pytest.mark.slow
def test_every_command_works_without_what_tests_install(album: Path) -> None:
    code = ALONE.format(absent=ABSENT, commands=COMMANDS)
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "BT_MODEL": "tiny", "BT_DTYPE": "float32"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=album, env=settings, capture_output=True, text=True)
    codes = {line[2:-2]: line[-1] for line in ran.stderr.splitlines() if line.startswith("$ ")}
    assert codes == {" ".join(command): "0" for command in COMMANDS}, ran.stderr
    assert "unexpected" not in ran.stderr
