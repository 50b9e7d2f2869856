"""What lies below the roots, as arrays: names of any bytes, times of any size, addresses told from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bt_cli.paths.index_paths import RootPaths
from bt_cli.planning import listing
from bt_cli.planning.listing import KnownShards, Listing
from bt_cli.store.stored_rows import StoredRows

LATE = 2**63 + 10**18
"""In nanoseconds, the year 2286."""


def listed(home: Path, *roots: str) -> Listing:
    paths = RootPaths(os.fspath(home))
    return Listing(list(roots), paths, None, KnownShards({}, StoredRows(), paths), paths.absolute)


@pytest.mark.parametrize("address", ["https://h/d.jpg", "https://h/\0d.jpg"])
@pytest.mark.parametrize("at_a_time", [1, 4, 100])
def test_arrays_of_what_was_found(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int, address: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(listing, "FILES_AT_A_TIME", at_a_time)
    home, beside = tmp_path / "home", tmp_path / "homely"
    places = [home / "a" / "1.jpg", home / "a" / os.fsdecode(b"b\xff.PNG"), beside / "c.jpg"]
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * number)
        os.utime(place, ns=(number, 1000 + number))
    os.utime(places[2], ns=(LATE, LATE))
    (home / "a" / ".hidden.jpg").write_bytes(b"x")
    (home / "a" / "z.txt").write_bytes(b"x")
    found = listed(home, os.fspath(beside), "a", address)
    assert found.names.to_pylist() == [os.fsencode(places[2]), b"a/1.jpg", b"a/b\xff.PNG", os.fsencode(address)]
    assert found.size.tolist() == [2, 0, 1, 0]
    assert found.mtime.tolist() == [min(places[2].stat().st_mtime_ns, 2**63 - 1), 1000, 1001, 0]
    assert found.on_web.tolist() == found.unknown.tolist() == [False, False, False, True]


def test_nothing(tmp_path: Path) -> None:
    found = listed(tmp_path)
    assert (len(found.names), len(found.size), len(found.on_web)) == (0, 0, 0)
