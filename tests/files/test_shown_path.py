"""Paths in messages: one line, printable, and plain names untouched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.files.shown_path import shown_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("photos/a b (1).jpg", "photos/a b (1).jpg"),
        ("写真/ürsprung/кот🐈.png", "写真/ürsprung/кот🐈.png"),
        (Path("a/b.png"), "a/b.png"),
        (b"plain.png", "plain.png"),
        ("two\nlines\tand\ra bell\a.png", r"two\nlines\tand\ra bell\x07.png"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("\x1b]0;title\x07.png", r"\x1b]0;title\x07.png"),
        ("right\u202eto left.png", r"right\u202eto left.png"),
    ],
)
def test_shown(path: object, shown: str) -> None:
    assert shown_path(path) == shown


@given(st.binary(max_size=40))
def test_any_name_becomes_one_printable_line(name: bytes) -> None:
    shown = shown_path(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")
