"""No file that a command writes is another one of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("captions.csv").write_text("image,caption\na.jpg,a dog\n")
    Path("q.tsv").write_text("1\ta dog\n")
    os.symlink("captions.csv", "link.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("eval captions.csv --run-out x --qrels-out ./x", "x is named by --run-out and --qrels-out"),
        ("eval captions.csv --html captions.csv", "captions.csv is named by CAPTIONS and --html"),
        ("eval link.csv --queries-out captions.csv", "captions.csv is named by CAPTIONS and --queries-out"),
        ("eval captions.csv --html link.csv", "link.csv is named by CAPTIONS and --html"),
        ("rerank --run q.tsv --queries q.tsv --run-out q.tsv", "q.tsv is named by --run and --run-out"),
        ("score q.tsv x --heatmap q.tsv", None),
        ("score --image q.tsv x --heatmap q.tsv", "q.tsv is named by --image and --heatmap"),
        ("label q.tsv --labels a,b -o x.parquet --html x.parquet", "x.parquet is named by --output and --html"),
        ("encode captions captions.csv -o captions.csv", None),
    ],
)
def test_two_names_of_one_file_are_misuse(bt, words: str, said: str | None) -> None:
    before = {name: Path(name).read_bytes() for name in sorted(os.listdir())}
    ran = bt(*words.split())
    assert ran.err.count("\n") == 1
    assert ran.code == 2 or said is None
    if said is not None:
        assert ran.err == f"bt: {said}; one would be lost, name another file\n"
    assert {name: Path(name).read_bytes() for name in sorted(os.listdir())} == before


def test_a_device_takes_several(bt, checkpoint_folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save("a.jpg")
    ran = bt("eval", "captions.csv", "--run-out", "/dev/null", "--qrels-out", "/dev/null", "--model", checkpoint_folder)
    assert ran.code == 0, ran.err
