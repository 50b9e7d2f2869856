"""Which files are found below a folder, and in what order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bt_cli.datasets.image_folder import content_hash, find_images, path_key
from bt_cli.errors import NotFound


def make(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(root: Path, *roots: str) -> list[str]:
    paths = [file.path for file in find_images([root / name for name in roots] if roots else [root])]
    return [os.path.relpath(path, root) for path in paths]


def test_images_by_suffix_in_the_order_of_their_components(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a/z.PNG", "a-b.jpg", "a.webp", "a/b/c.heic", "notes.txt", "d.jpg.part", "B.jpg")
    assert found(tmp_path) == ["B.jpg", "a/b/c.heic", "a/z.PNG", "a-b.jpg", "a.webp", "b.jpg"]


def test_size_and_time(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", content=b"12345")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_234_567_890_123_456_789))
    (file,) = find_images([tmp_path])
    assert file == (str(tmp_path / "a.jpg"), 5, 1_234_567_890_123_456_789)


def test_hidden_ones_are_passed_over_unless_named(tmp_path: Path) -> None:
    make(tmp_path, ".a.jpg", ".bt/b.jpg", "c/.d/e.jpg", "f.jpg")
    assert found(tmp_path) == ["f.jpg"]
    assert found(tmp_path, ".a.jpg", "c/.d") == [".a.jpg", "c/.d/e.jpg"]


def test_files_without_a_suffix_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    make(tmp_path, "jpeg", content=b"\xff\xd8\xff\xe0rest")
    make(tmp_path, "webp", content=b"RIFF\0\0\0\0WEBPVP8 ")
    make(tmp_path, "avif", content=b"\0\0\0\x1cftypavif")
    make(tmp_path, "README", content=b"BMs are not images")
    make(tmp_path, "empty", content=b"")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == ["avif", "jpeg", "webp"]


def test_loops_of_links_end_and_no_image_comes_twice(tmp_path: Path) -> None:
    make(tmp_path, "a/b/x.jpg", "y.jpg")
    os.symlink(tmp_path, tmp_path / "a/up")
    os.symlink(tmp_path / "a", tmp_path / "a/b/again")
    os.symlink("self", tmp_path / "self")
    os.symlink(tmp_path / "a/b", tmp_path / "0-first")
    assert found(tmp_path) == ["a/b/x.jpg", "y.jpg"]


def test_links_to_outside_and_to_hidden_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "root/.hidden/h.jpg", "outside/o.jpg", "outside/deep/p.jpg")
    os.symlink(tmp_path / "outside", tmp_path / "root/out")
    os.symlink(tmp_path / "outside", tmp_path / "root/out-again")
    os.symlink(".hidden", tmp_path / "root/seen")
    os.symlink(tmp_path / "root", tmp_path / "outside/back")
    os.symlink(tmp_path / "outside/o.jpg", tmp_path / "root/file.jpg")
    assert found(tmp_path, "root") == ["root/file.jpg", "root/out/deep/p.jpg", "root/out/o.jpg", "root/seen/h.jpg"]


def test_roots_in_roots_and_files_as_roots(tmp_path: Path) -> None:
    make(tmp_path, "a/b/x.jpg", "a/y.jpg", "a/odd.dat")
    assert found(tmp_path, "a/b", "a") == ["a/b/x.jpg", "a/y.jpg"]
    assert found(tmp_path, "a", "a/b", "a/y.jpg") == ["a/b/x.jpg", "a/y.jpg"]
    assert found(tmp_path, "a/odd.dat", "a/odd.dat", "a") == ["a/odd.dat", "a/b/x.jpg", "a/y.jpg"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.symlink("nowhere", tmp_path / "broken.jpg")
    told: list[tuple[str, str | None]] = []
    images = find_images([tmp_path], on_error=lambda path, error: told.append((path, error.strerror)))
    assert [file.path for file in images] == [str(tmp_path / "a.jpg")]
    assert told == [(str(tmp_path / "broken.jpg"), "No such file or directory")]


def test_a_missing_root_is_told_before_anything_is_looked_at(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(NotFound, match=r"no\\nwhere: no such file or folder"):
        find_images([tmp_path, tmp_path / "no\nwhere"])


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {0, ord("/")} & set(name) and not name.startswith(b".")
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8))
def test_any_name_is_found_once_in_order(tmp_path_factory: pytest.TempPathFactory, names: list[list[bytes]]) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("names"))
    expected = set()
    for parts in names:
        path = os.path.join(root, *(part + b".d" for part in parts[:-1]), parts[-1] + b".jpg")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"x")
        except OSError:  # a name that this file system does not take
            continue
        expected.add(os.fsdecode(path))
    listed = [file.path for file in find_images([os.fsdecode(root)])]
    assert sorted(listed) == sorted(expected)
    assert listed == sorted(listed, key=path_key)


def test_content_hash_is_what_sha256sum_prints(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    make(tmp_path, "a", content=content)
    assert content_hash(tmp_path / "a") == content_hash(content) == hashlib.sha256(content).hexdigest()
