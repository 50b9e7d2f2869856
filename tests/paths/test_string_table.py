"""Strings found by number, whatever bytes they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.errors import BrokenIndex
from bt_cli.paths.string_table import StringTable, write_strings


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, strings: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("strings") / "s"
    with open(path, "wb") as file:
        write_strings(file, iter(strings), len(strings))
    table = StringTable(path)
    assert len(table) == len(strings)
    assert [table[number] for number in range(len(strings))] == strings
    with pytest.raises(IndexError):
        table[len(strings)]


@pytest.mark.parametrize("strings", [[b"a"], [b"a", b"b", b"c"], []])
def test_another_number_than_announced(tmp_path: Path, strings: list[bytes]) -> None:
    with open(tmp_path / "s", "wb") as file, pytest.raises(ValueError, match="not the 2 strings"):
        write_strings(file, strings, 2)


@pytest.mark.parametrize("content", [b"", b"BTSTRING", b"XXSTRING" + bytes(16), b"BTSTRING" + b"\xff" * 8])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(BrokenIndex, match=r"/s: no string table"):
        StringTable(tmp_path / "s")


def strings_file(path: Path) -> bytes:
    with open(path, "wb") as file:
        write_strings(file, [b"one", b"two", b"three"], 3)
    return path.read_bytes()


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, -11), slice(0, None)])
def test_a_text_of_another_length_is_refused_on_opening(tmp_path: Path, cut: slice) -> None:
    whole = strings_file(tmp_path / "s")
    (tmp_path / "s").write_bytes(whole[cut] + b"x" * (cut.stop is None))
    with pytest.raises(BrokenIndex, match=r"/s: damaged; .*--rebuild"):
        StringTable(tmp_path / "s")


@pytest.mark.parametrize(("place", "value"), [(16, 1), (24, 200), (32, 1)])
def test_offsets_that_fall_or_lead_beyond_the_text_are_refused(tmp_path: Path, place: int, value: int) -> None:
    content = bytearray(strings_file(tmp_path / "s"))
    content[place] = value
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(BrokenIndex, match=r"/s: damaged"):
        [StringTable(tmp_path / "s")[number] for number in range(3)]
