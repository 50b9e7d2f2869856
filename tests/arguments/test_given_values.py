"""Names that are empty and numbers that are none, of every command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bt_cli.arguments.given_values import names_a_place
from bt_cli.commands.app import COMMANDS, load_command


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in COMMANDS:
        loaded = load_command(name)
        for inner, command in getattr(loaded, "commands", {"": loaded}).items():
            yield ((name, inner) if inner else (name,)), command


def named() -> list[tuple[tuple[str, ...], str]]:
    return [
        (words, parameter.opts[0])
        for words, command in commands()
        for parameter in command.params
        if parameter.opts[0].startswith("-") and names_a_place(parameter.metavar)
    ]


@pytest.mark.parametrize(("words", "option"), named(), ids=lambda value: " ".join(value) if value is not str else value)
def test_an_empty_name_is_misuse_and_never_the_working_directory(
    bt, words: tuple[str, ...], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = bt(*words, option, "")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"'{option}'" in ran.err
    assert "the name is empty" in ran.err
    assert os.listdir() == []


@pytest.mark.parametrize(
    "words",
    [["show", ""], ["models", "info", ""], ["eval", ""], ["encode", "images", "", "-o", "x.npy"], ["index", "a", ""]],
)
def test_an_empty_argument_is_misuse(bt, words: list[str]) -> None:
    ran = bt(*words)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ": the name is empty (see bt " in ran.err


def test_values_that_may_be_texts_or_nothing_are_left_to_their_command() -> None:
    assert not any(map(names_a_place, ["QUERY", "TEXT|FILE", "A,B,...|FILE", "GLOB", "NAME[,NAME]", "N", None]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["search", "x", "-k", "1e3"],
            "'-k' / '--top' / '--top-k': '1e3' is no whole number of 1 or more (see bt search",
        ),
        (["search", "x", "-k", "0x10"], "'-k' / '--top' / '--top-k': '0x10' is no whole number of 1 or more (see "),
        (["search", "x", "-k", "1.5"], "'-k' / '--top' / '--top-k': '1.5' is no whole number of 1 or more (see bt sea"),
        (["search", "x", "-k", "0"], "'-k' / '--top' / '--top-k': 0 is out of range: 1 or more (see bt search --help)"),
        (["serve", "--port", "99999"], "'--port': 99999 is out of range: 0 to 65535 (see bt serve --help)"),
        (["duplicates", "--near", "x"], "'--near': 'x' is no number (see bt duplicates --help)"),
        (["eval", "x", "--memory", "nan"], "'--memory': nan is out of range: 0 or more (see bt eval --help)"),
        (["search", "x", "--to", "foo"], "'--to': 'foo' is not one of 'images', 'captions' (see bt search --help)"),
        (["train", "x", "--validation-share", "2"], "'--validation-share': 2 is out of range: 0 to 0.9 (see bt train"),
    ],
)
def test_a_number_that_is_none_is_shown(bt, words: list[str], said: str) -> None:
    ran = bt(*words)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"bt: invalid value for {said}")
