"""The recipes for other libraries run as they stand, where the library is installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = dict(
    re.findall(r"<!-- recipe: (\w+) -->\n```python\n(.*?)```", (ROOT / "docs/recipes.md").read_text("utf-8"), re.DOTALL)
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    from bt_cli.commands.app import main

    folder = tmp_path_factory.mktemp("recipes") / "photos"
    folder.mkdir()
    for number in range(1, 9):
        shutil.copy(ROOT / "sample_data/images" / f"scene-{number:04}.jpg", folder)
    assert main(["index", str(folder), "--index", str(folder / ".bt"), "--model", "tiny", "-q"]) == 0
    return folder


def run(name: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    if name != "rank" and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(photos.parent)
    names: dict[str, Any] = {}
    exec(RECIPES[name], names)
    return names


def test_rank(photos, monkeypatch):
    ranked = run("rank", photos, monkeypatch)["ranked"]
    assert len(ranked) == 3
    assert [one["score"] for one in ranked] == sorted((one["score"] for one in ranked), reverse=True)


def test_langchain(photos, monkeypatch):
    made = run("langchain_core", photos, monkeypatch)
    assert sum(value * value for value in made["vector"]) == pytest.approx(1, abs=1e-4)
    hits = made["bt_cli"].Index.open("photos/.bt").search("a red car", k=3)
    assert [document.page_content for document in made["documents"]] == [hit.path for hit in hits]


def test_lancedb(photos, monkeypatch):
    made = run("lancedb", photos, monkeypatch)
    hits = made["index"].search("a red car", k=3)
    assert [row["path"] for row in made["found"]] == [hit.path for hit in hits]
