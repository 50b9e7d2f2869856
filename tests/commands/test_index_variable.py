"""BT_INDEX: one index, whatever it is called, or several with a colon between them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bt_cli.arguments.opening import named_indexes

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
SCENES = Path(__file__).parents[2] / "sample_data" / "images"


@pytest.fixture
def home(bt: Bt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    for number, index in enumerate(("first index", "second", "with:colon")):
        folder = tmp_path / f"photos {number}"
        folder.mkdir()
        for name in (f"scene-000{2 * number + 1}.jpg", f"scene-000{2 * number + 2}.jpg"):
            (folder / name).write_bytes((SCENES / name).read_bytes())
        assert bt("index", folder, "--index", index, "--quiet").code == 0
    return tmp_path


def test_several_indexes_and_names_with_spaces_and_colons(bt: Bt, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def paths(value: str) -> list[str]:
        monkeypatch.setenv("BT_INDEX", value)
        ran = bt("search", "a red car", "--json", "--quiet")
        assert ran.code == 0, ran.err
        return sorted(os.path.relpath(hit["path"]) for hit in ran.objects)

    scenes = [f"photos {number // 2}/scene-000{number + 1}.jpg" for number in range(6)]
    assert paths("first index") == scenes[:2]
    assert paths(f"first index{os.pathsep}{home}/second") == scenes[:4]
    assert paths("with:colon") == scenes[4:]
    for value in ("first index", "with:colon", ":", ""):
        monkeypatch.setenv("BT_INDEX", value)
        assert named_indexes(None) == [value]
    assert named_indexes([Path("a"), Path("b c")]) == [Path("a"), Path("b c")]
    monkeypatch.delenv("BT_INDEX")
    assert named_indexes(None) == [None]


def test_a_command_that_takes_one_index_refuses_several(bt: Bt, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_INDEX", f"first index{os.pathsep}second")
    for command in (("index", "photos 0"), ("info", ".bt"), ("export", "--to", "npy", "-o", "out")):
        ran = bt(*command)
        assert (ran.code, "BT_INDEX names several indexes, and this takes one; name it with --index" in ran.err) == (
            2,
            True,
        ), ran.err
    assert sorted(path.name for path in home.iterdir() if path.name != "photos 0")[:3] == [
        "first index",
        "photos 1",
        "photos 2",
    ]
    assert bt("index", "photos 0", "--index", "second", "--quiet").code == 0


def test_an_index_that_is_named_twice_is_searched_once(bt: Bt, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("link").symlink_to("second")
    monkeypatch.delenv("BT_INDEX", raising=False)
    once = bt("search", "a dog", "--index", "second", "--json", "-k", "2", "--quiet")
    ran = bt("search", "a dog", "--index", "second", "--index", "link", "--json", "-k", "2")
    assert (ran.code, ran.out) == (0, once.out)
    assert ran.err.splitlines()[0] == "bt: link: the same index as second, taken once"
    monkeypatch.setenv("BT_INDEX", f"link{os.pathsep}{home}/second")
    assert bt("search", "a dog", "--json", "-k", "2", "--quiet").out == once.out
