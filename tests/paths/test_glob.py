"""Globs over many paths at once against the same globs, path by path."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bt_cli.paths import glob
from bt_cli.paths.glob import glob_matcher, matching_rows, names_folders

HOMES = ["/", "/home/a", "/a/b", "/b/a/b", "/x/\udcff"]
part = st.text(alphabet="ab.é\n\udcc3\udca9\udcff ", min_size=1, max_size=4)
path = st.builds(
    lambda root, parts: root + "/".join(parts), st.sampled_from(["", "", "/"]), st.lists(part, min_size=1, max_size=4)
)
piece = st.sampled_from(
    [*"ab/.é\udcc3\udca9\n*?", "a/", "b/", "a/b/", "**", "**/", "*/", "[a]", "[!a]", "[a/]"],
)
pattern = st.builds(
    lambda start, pieces: start + "".join(pieces),
    st.sampled_from(["", "", "", "/", "./", "../", "/a/", "**/"]),
    st.lists(piece, min_size=1, max_size=5),
)


def table(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [os.fsencode(path) for path in paths]
    offsets = np.cumsum([0, *map(len, encoded)]).astype("<u8")
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def expected(pattern: str, home: str, paths: list[str]) -> list[int]:
    matches = glob_matcher(pattern)
    home = "" if names_folders(pattern) else home
    known = [os.fsdecode(os.fsencode(path)) for path in paths]  # a name is bytes: stray ones may make up a character
    return [row for row, path in enumerate(known) if matches(os.path.join(home, path))]


@settings(max_examples=500)
@given(pattern=pattern, home=st.sampled_from(HOMES), paths=st.lists(path, max_size=12))
@example(pattern="b/a/*", home="/x/b", paths=["a/c", "b/a/c", "c/b/a/d", "a/b/a/e"])
@example(pattern="b/**", home="/x/b/c", paths=["a", "/b/a", "/c/b"])
@example(pattern="*ab", home="/", paths=["a", "b", "ab", "b/ab", "/ab"])
@example(pattern="*ab*", home="/", paths=["a", "b", "xab/c", "c/abx", "ab"])
@example(pattern="a**/", home="/", paths=["a", "b/a"])
@example(pattern="a**/b", home="/", paths=["ab", "a/b", "ax/b"])
@example(pattern="a/", home="/a", paths=["b", "a/b", "c/a/d", "/a/b"])
@example(pattern="/", home="/a", paths=["b", "/a"])
@example(pattern="a/*", home="/a", paths=["", "b", "b/a"])
def test_all_at_once_is_one_by_one(pattern: str, home: str, paths: list[str]) -> None:
    assert matching_rows(pattern, home, *table(paths)).tolist() == expected(pattern, home, paths)


@settings(max_examples=40)
@given(tail=st.sampled_from(["*.jpg", "**", "**/*.jpg", "a*", "a.jpg", "**/a.jpg", "b/*"]), deep=st.integers(0, 3))
def test_from_the_working_directory(tail: str, deep: int) -> None:
    here = os.getcwd()
    home = here if deep == 0 else os.path.join(here, *"ab"[: deep - 1]) if deep < 3 else os.path.dirname(here)
    inner = os.path.basename(here)
    paths = [
        "a.jpg",
        "b/a.jpg",
        "b/b/a.jpg",
        "a/b/x.png",
        f"{inner}/b/a.jpg",
        f"{inner}/a.jpg",
        f"{here}/b/c.jpg",
        "/a.jpg",
    ]
    for start in ("./", "../", "./b/", "./a/", f"{here}/", f"{here}/a/"):
        assert matching_rows(start + tail, home, *table(paths)).tolist() == expected(start + tail, home, paths)


USUAL = "*.jpg * ** IMG_* IMG_*.jpg *cat* a.jpg 2024/* photos/2024/** photos/**/*.jpg ./x/** /a/b*.png @eaDir/ a/b/"


@pytest.mark.parametrize("pattern", USUAL.split())
def test_the_usual_globs_need_no_look_at_each_path(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glob, "glob_matcher", None)
    assert matching_rows(pattern, "/home", *table(["photos/2024/IMG_1.jpg", "cat.png"])).dtype == np.int64


def test_no_path_at_all() -> None:
    for pattern in ("*", "a/**", "[ab]", "./x"):
        assert matching_rows(pattern, "/home", *table([])).tolist() == []


@pytest.mark.parametrize("pattern", ["*.png", "*a*b*", "photos/201?/**", "2010/*", "/home/photos/2010/**", "@eaDir/"])
def test_threads_that_share_the_paths_find_the_same(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = ("photos/2010", "photos/2011/@eaDir", "photos/\u00fc", "2010", "/home/photos/2010")
    paths = sorted(f"{folder}/{name}" for folder in folders for name in ("ab.png", "cat_b.jpg", "z.jpg", "ba.png"))
    monkeypatch.setattr(glob, "ROWS_A_THREAD", 3)
    monkeypatch.setattr(glob, "processor_count", lambda: 4)
    assert matching_rows(pattern, "/home", *table(paths)).tolist() == expected(pattern, "/home", paths)
