"""docs/tour.ipynb runs, prints what it shows, has its pictures, and uses the public face alone."""

from __future__ import annotations

import ast
import base64
import io
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from console_blocks import same_line
from PIL import Image

import bt_cli
from tools.refresh_tour import TOUR, executed


def texts(cell: Any) -> list[str]:
    """The lines that a cell shows: printed ones and the written form of a value that is no picture."""
    lines: list[str] = []
    for output in cell.get("outputs", []):
        text = output.get("text") or ("" if pictures(output) else output["data"]["text/plain"])
        lines += text.splitlines()
    return lines


def pictures(output: Any) -> list[tuple[int, int]]:
    """The sizes of the pictures that an output holds."""
    data = [value for kind, value in output.get("data", {}).items() if kind in ("image/png", "image/jpeg")]
    return [Image.open(io.BytesIO(base64.b64decode(value))).size for value in data]


@pytest.mark.slow
def test_the_notebook_shows_what_it_shows_when_it_is_run(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bt_cli "$@"\n')
    (programs / "bt").chmod(0o755)
    shown = nbformat.read(TOUR, as_version=4)
    folder = tmp_path / "clone"
    folder.mkdir()
    ran = executed(nbformat.read(TOUR, as_version=4), folder, programs)
    for before, after in zip(shown.cells, ran.cells, strict=True):
        same = [same_line(*lines) for lines in zip(texts(before), texts(after), strict=True)]
        assert all(same), f"{before.source}\nshown: {texts(before)}\nprinted: {texts(after)}"
        drawn = [[pictures(output) for output in cell.get("outputs", [])] for cell in (before, after)]
        assert drawn[0] == drawn[1], before.source
    assert sum(len(pictures(output)) for cell in shown.cells for output in cell.get("outputs", [])) == 5


def test_the_notebook_is_small_and_uses_public_names_alone() -> None:
    assert TOUR.stat().st_size < 400_000
    code = [cell.source for cell in nbformat.read(TOUR, as_version=4).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(line for source in code for line in source.splitlines() if not line.startswith("!")))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in modules if name and name.startswith("bt_cli")] == []
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bt_cli"
    }
    assert used <= set(bt_cli.__all__)
    assert {"Index", "load"} <= used
