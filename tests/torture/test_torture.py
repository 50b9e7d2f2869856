"""A fast slice of `make torture`, and that torture itself tells what held from what was lost."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from torture.attempt import Lost, Outcome, attempt, fault_of
from torture.campaign import KINDS, main, one
from torture.captions import Captions
from torture.mutation import mutated, one_place
from torture.ordeal import Ordeal
from torture.pictures import Pictures
from torture.stores import Stores, Swaps
from torture.tally import Tally, Try

from bt_cli.errors import NotFound

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits forked processes")

SEED = 20261126
SLICE: dict[type[Ordeal], int] = {Stores: 20, Swaps: 10, Pictures: 30, Captions: 30}


@pytest.mark.parametrize("kind", SLICE, ids=lambda kind: kind.kind)
def test_nothing_is_lost(kind: type[Ordeal], tmp_path: Path) -> None:
    ordeal = kind(tmp_path / "ordeal")
    ordeal.folder.mkdir()
    ordeal.prepare()
    tally = Tally()
    for number in range(SLICE[kind]):
        tally.add(one(ordeal, SEED, number))
    assert tally.lost == [], "\n".join(tally.lines(SEED))
    assert tally.rows[kind.kind].refused > 0


def says(word: str) -> Outcome:
    os.write(2, b"TIFFReadDirectory: Warning.\n")
    return Outcome(word)


def fills() -> Outcome:
    return Outcome(str(len(bytes(1 << 31))))


def raises(error: Exception) -> Outcome:
    raise error


def ends() -> Outcome:
    os._exit(0)


@pytest.mark.parametrize(
    ("work", "word"),
    [
        (lambda: Outcome("right"), "right"),
        (lambda: raises(NotFound("x: no such file")), "refused"),
        (lambda: raises(NotFound("x: no such\nfile")), "two lines"),
        (lambda: raises(Lost("another answer")), "lost"),
        (lambda: raises(KeyError("x")), "unexpected"),
        (lambda: says("right"), "bad stderr"),
        (lambda: time.sleep(30), "hang"),
        (fills, "memory"),
        (ends, "died of signal 0"),
    ],
)
def test_what_a_try_comes_to(work, word: str) -> None:
    assert attempt(work, seconds=2, memory=1 << 30).word == word


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("bt: x: no such file", ""),
        ("Traceback (most recent call last):", "not ours: Traceback (most recent call last):"),
        ("bt: unexpected KeyError: 'x'", "bt: unexpected KeyError: 'x'"),
        ("bt: " + "x" * 401, "405 characters: bt: " + "x" * 196),
    ],
)
def test_which_lines_no_user_should_see(line: str, fault: str) -> None:
    assert fault_of([line]) == fault


def test_a_seed_makes_the_same_changes_again() -> None:
    content = bytes(range(256)) * 8
    for change in (mutated, lambda content, chance: one_place(content, chance, bit=True)):
        made = [change(content, random.Random(f"7 {number}")) for number in range(20)]
        assert made == [change(content, random.Random(f"7 {number}")) for number in range(20)]
        assert len(set(made)) > 15


def test_the_table_names_each_case_that_was_lost() -> None:
    tally = Tally()
    tally.add(Try("stores", 0, "small: paths", Outcome("refused", "", ("mended",))))
    tally.add(Try("stores", 1, "small: paths", Outcome("wrong answer", "images")))
    assert tally.lines(7) == [
        "what     tried   held  right refused  lost",
        "stores       2      1      0       1     1",
        "stores: 1 mended",
        "lost: python -m tests.torture --seed 7 --only stores --number 1: small: paths: wrong answer: images",
    ]


def test_one_try_by_its_number(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torture.campaign.warm_up", lambda: None)
    for name in ("HOME", "HF_HOME", "HF_HUB_OFFLINE", "NO_COLOR", "COLUMNS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards
    assert main(["--seed", "3", "--only", "captions", "--number", "5"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].split()[:3] == ["captions", "1", "1"]


def test_the_kinds_have_names_of_their_own() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS) == 8
