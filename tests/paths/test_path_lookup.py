"""Paths are found among others whatever the order of either, and what is not there is found nowhere."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from bt_cli.paths import path_lookup
from bt_cli.paths.path_lookup import rows_of_paths


def array(paths: list[bytes]) -> pa.Array:
    return pa.array(paths, pa.large_binary())


def wanted_rows(wanted: list[bytes], held: list[bytes]) -> list[int]:
    place = {path: row for row, path in enumerate(held)}
    return [place.get(path, -1) for path in wanted]


@pytest.mark.parametrize("span", [1, 2, 7, 4096])
@pytest.mark.parametrize("most_steps", [0, 3, 1000])
def test_against_a_dictionary(monkeypatch: pytest.MonkeyPatch, span: int, most_steps: int) -> None:
    monkeypatch.setattr(path_lookup, "SPAN", span)
    monkeypatch.setattr(path_lookup, "MOST_STEPS", most_steps)
    chance = random.Random(3)
    for trial in range(60):
        letters = [b"a", b"b", b"-", b"/", b"\xff", b"\0"]
        names = list({b"".join(chance.choices(letters, k=chance.randrange(6))) for _ in range(40)})
        names.sort(key=lambda name: name.replace(b"/", b"\0"))
        wanted = [name for name in names if chance.random() < 0.8]
        held = [name for name in names if chance.random() < 0.8]
        if trial % 3 == 1:
            chance.shuffle(wanted)
        if trial % 3 == 2:
            wanted += chance.choices(wanted, k=3)
        assert rows_of_paths(array(wanted), [array(held)]).tolist() == wanted_rows(wanted, held)
        at = chance.randrange(len(held) + 1)
        parts = [array(held[:at]), array([]), array(held[at:])]
        assert rows_of_paths(array(wanted), parts).tolist() == wanted_rows(wanted, held)


def test_parts_of_arrays_and_none() -> None:
    names = [b"%04d.jpg" % number for number in range(10_000)]
    some = array(names)[100:9000:1]
    assert np.array_equal(rows_of_paths(some, [array(names)]), np.arange(100, 9000))
    assert rows_of_paths(array(names), [some]).tolist() == wanted_rows(names, names[100:9000])
    assert rows_of_paths(array([]), [some]).tolist() == []
    assert rows_of_paths(array([b""]), [array([])]).tolist() == [-1]
    assert rows_of_paths(array([b""]), []).tolist() == [-1]
