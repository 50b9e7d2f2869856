"""One word for many shards: braces and wildcards."""

from __future__ import annotations

from pathlib import Path

import pytest

from bt_cli.errors import Misuse, NotFound
from bt_cli.sources.shard_list import shard_list


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("x.tar", ["x.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("s-{008..011}.tar", ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]),
        ("{train,val}/{00..01}.tar", ["train/00.tar", "train/01.tar", "val/00.tar", "val/01.tar"]),
        ("https://host/{0..1}.tar", ["https://host/0.tar", "https://host/1.tar"]),
    ],
)
def test_braces(name: str, names: list[str]) -> None:
    assert shard_list(name) == names


def test_wildcards_and_names_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.tar", "a.tar", "{0..1}.tar", "[x].tar"):
        Path(name).touch()
    assert shard_list("?.tar") == ["a.tar", "b.tar"]
    assert shard_list("{0..1}.tar") == ["{0..1}.tar"]
    assert shard_list("[x].tar") == ["[x].tar"]
    with pytest.raises(NotFound, match=r"z\*\.tar: no such file or folder, and no file fits it as a pattern"):
        shard_list("z*.tar")


@pytest.mark.parametrize("name", ["{5..1}.tar", "{0..99999999}.tar", "{0..9999}{0..9999}.tar"])
def test_lists_beyond_measure(name: str) -> None:
    with pytest.raises(Misuse):
        shard_list(name)
