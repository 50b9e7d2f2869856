"""What is kept of files elsewhere is what was read of them, wherever it begins."""

from __future__ import annotations

import random
import shutil
from collections import namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.sources.remote_copy import RemoteCopy

CONTENT = random.Random(2).randbytes(200)
KEY = ("http://example.org/a.tar", 200, 5)
PART = st.tuples(st.integers(0, 199), st.integers(1, 60))


@settings(max_examples=60, deadline=None)
@given(st.lists(PART, max_size=8), st.lists(PART, min_size=1, max_size=8))
def test_parts_are_found_as_they_were_kept(kept: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    copy = RemoteCopy()
    there: set[int] = set()
    for first, size in kept:
        copy.keep(KEY, first, CONTENT[first : first + size])
        found, missing = copy.find(KEY, first, 1)
        assert (found, missing) == (CONTENT[first : first + 1], 0)
        there |= {place for place in range(200) if copy.find(KEY, place, 1)[0]}
    for first, size in asked:
        found, missing = copy.find(KEY, first, size)
        assert found == CONTENT[first : first + len(found)]
        assert bool(found) is (first in there)
        if not found:
            assert all(place not in there for place in range(first, min(first + missing, 200)))
            assert missing >= size or first + missing in there
    assert copy.find(("http://example.org/a.tar", 200, 6), 0, 10) == (b"", 10)


def test_what_has_no_room_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 0, 400))
    copy = RemoteCopy()
    copy.keep(KEY, 0, CONTENT[:90])
    copy.keep(KEY, 90, CONTENT[90:110])
    copy.keep(KEY, 150, CONTENT[150:160])
    assert copy.find(KEY, 0, 200) == (CONTENT[:90], 0)
    assert copy.find(KEY, 90, 20) == (b"", 60)
    assert copy.find(KEY, 150, 200) == (CONTENT[150:160], 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(PART, max_size=8), st.lists(PART, min_size=1, max_size=8))
def test_what_is_kept_whole_is_known(kept: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    copy = RemoteCopy()
    for first, size in kept:
        copy.keep(KEY, first, CONTENT[first : first + size])
    there = {place for place in range(300) if copy.find(KEY, place, 1)[0]}
    for first, size in asked:
        assert copy.holds(KEY, first, size) is all(place in there for place in range(first, first + size))
    assert not copy.holds(("http://example.org/b.tar", 200, 5), 0, 1)
