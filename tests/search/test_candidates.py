"""What comes in on stdin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.errors import EmptyFolder, Misuse
from bt_cli.search.candidates import Candidate, Hit, from_arguments, from_bytes, from_hits


def test_paths_one_a_line() -> None:
    data = b"a b.jpg\n\nc.jpg\r\n\xff.png"
    assert from_bytes(data) == [Candidate("a b.jpg"), Candidate("c.jpg"), Candidate("\udcff.png")]


def test_a_folder_among_the_arguments_stands_for_its_images(tmp_path: Path) -> None:
    (tmp_path / "album/deep").mkdir(parents=True)
    for name in ("album/b.png", "album/deep/a.jpg", "album/notes.txt"):
        (tmp_path / name).touch()
    album = str(tmp_path / "album")
    assert from_arguments(["gone.jpg", album, "notes.txt"]) == [
        Candidate(path) for path in ("gone.jpg", f"{album}/b.png", f"{album}/deep/a.jpg", "notes.txt")
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyFolder, match=r"empty: no images there"):
        from_arguments([str(tmp_path / "empty")])


def test_paths_between_nuls() -> None:
    assert from_bytes(b"a\nb.jpg\0{c.jpg\0", nul=True) == [Candidate("a\nb.jpg"), Candidate("{c.jpg")]


def test_json_lines_are_taken_though_nuls_were_announced() -> None:
    assert from_bytes(b'{"path": "a"}\n{"path": "b"}\n', nul=True) == [Candidate("a"), Candidate("b")]


def test_a_path_with_a_brace_is_a_path() -> None:
    assert from_bytes(b"{a}.png\n") == [Candidate("{a}.png")]


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name), st.integers(0, 9), st.floats(-1, 1))
def test_any_file_name_survives_a_search_line(name: bytes, id: int, itc: float) -> None:
    from bt_cli.display.data_lines import object_line

    path = name.decode("utf-8", "surrogateescape")
    hit = Hit(1, id, path, itc, itc=itc)
    line = object_line(hit.record())
    assert line.count(b"\n") == 1
    (candidate,) = from_bytes(line)
    assert (candidate.path, candidate.id) == (path, id)
    assert candidate.itc == pytest.approx(itc, abs=1e-6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b"x.jpg", "stdin line 2 is no JSON object"),
        (b"[1]", 'stdin line 2 has no "path"'),
        (b'{"caption": "a cat"}', 'stdin line 2 has no "path"'),
        (b'{"path": ""}', 'stdin line 2 has no "path"'),
        (b'{"path": null}', 'stdin line 2 has no "path"'),
        (b'{"path": "b.jpg", "itc": NaN}', 'stdin line 2: "itc" is nan'),
        (b'{"path": "b.jpg", "itc": 1e999}', 'stdin line 2: "itc" is inf'),
        (b'{"path": "b.jpg", "itc": ' + 400 * b"9" + b"}", 'stdin line 2: "itc" is 99999999999999999999, and'),
    ],
)
def test_a_bad_line_is_named(second: bytes, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        from_bytes(b'{"path": "a.jpg"}\n' + second + b"\n")


def test_odd_values_beside_the_path_are_left_out() -> None:
    line = json.dumps({"path": "a", "id": True, "itc": "high"}).encode()
    assert from_bytes(line) == [Candidate("a")]


def test_nothing_is_nothing() -> None:
    assert from_bytes(b"") == from_bytes(b"\n") == from_bytes(b"", nul=True) == []


def test_hits_become_candidates() -> None:
    assert from_hits([Hit(1, 7, "a", 0.5, itc=0.5, caption="c")]) == [Candidate("a", 7, 0.5, "c")]
