"""`bt encode`: where the table goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_dash_is_stdout(tmp_path: Path, checkpoint_folder: Path) -> None:
    import io

    import pyarrow.parquet

    (tmp_path / "c.txt").write_text("a red car\ntwo dogs\n")
    command = [sys.executable, "-m", "bt_cli", "encode", "captions", "c.txt", "-o", "-", "--model", checkpoint_folder]
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONPATH": root}, check=True)
    table = pyarrow.parquet.read_table(io.BytesIO(ran.stdout))
    assert table.column("caption").to_pylist() == ["a red car", "two dogs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt"]


@pytest.mark.parametrize("name", ["x.npy", "x.csv"])
def test_a_suffix_of_another_format_is_refused(bt, tmp_path: Path, name: str) -> None:
    ran = bt("encode", "captions", "c.txt", "-o", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    assert "the table is Parquet; name it .parquet, or - for stdout" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_two_things_do_not_share_stdout(bt) -> None:
    ran = bt("encode", "captions", "c.txt", "-o", "-", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "bt: -o - and --json both write to stdout; name a file for the table\n"
