"""Folders of nothing but images, looked at all at once, by this process and by a second one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bt_cli.datasets import image_folder
from bt_cli.datasets.folder_files import FolderFiles, SecondReader, folder_files
from bt_cli.datasets.image_folder import IMAGE_SUFFIXES, ImageFile, find_images, find_runs, path_key

pytestmark = pytest.mark.skipif(os.scandir not in os.supports_fd, reason="folders are not read by descriptors here")
NAMES = ("b.jpg", "a.PNG", "a b.webp", "é.jpg", "a.b.gif", "a\udcff.jpg")


def fill(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        (folder / name).write_bytes(b"x" * place)
        os.utime(folder / name, ns=(0, 1_000_000_007 * place))
    return folder


@pytest.fixture
def second() -> Iterator[SecondReader]:
    reader = SecondReader(IMAGE_SUFFIXES)
    yield reader
    reader.close()


def test_names_in_the_order_of_their_bytes_with_sizes_and_times(tmp_path: Path) -> None:
    found = folder_files(os.fspath(fill(tmp_path)), IMAGE_SUFFIXES)
    assert found is not None
    expected = sorted(NAMES, key=os.fsencode)
    assert [os.path.basename(path) for path, _, _ in found.each()] == expected
    assert found.paths().split(b"\0") == [os.fsencode(tmp_path / name) for name in expected]
    assert list(found.sizes) == [NAMES.index(name) for name in expected]
    assert list(found.times) == [1_000_000_007 * NAMES.index(name) for name in expected]


@pytest.mark.parametrize("other", [".hidden.jpg", ".btignore", "notes.txt", "jpg", "folder/", "link.jpg", "pipe.jpg"])
def test_anything_else_in_a_folder_asks_for_a_closer_look(tmp_path: Path, other: str) -> None:
    folder = fill(tmp_path / "images")
    if other.endswith("/"):
        (folder / other).mkdir()
    elif other.startswith("link"):
        (folder / other).symlink_to(folder / NAMES[0])
    elif other.startswith("pipe"):
        os.mkfifo(folder / other)
    else:
        (folder / other).touch()
    assert folder_files(os.fspath(folder), IMAGE_SUFFIXES) is None


def test_an_empty_folder_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert folder_files(os.fspath(tmp_path), IMAGE_SUFFIXES) is None
    assert folder_files(os.fspath(tmp_path / "gone"), IMAGE_SUFFIXES) is None


def test_the_second_process_answers_as_this_one_does(tmp_path: Path, second: SecondReader) -> None:
    folders = [os.fspath(fill(tmp_path / name)) for name in ("one", "two\udcfe")]
    large = os.fspath(fill(tmp_path / "large", tuple(f"{'n' * 200}{number:05d}.jpg" for number in range(6000))))
    for folder in (*folders, os.fspath(tmp_path), large):
        second.ask(folder)
    assert not second.has_room
    for folder in (folders[1], folders[0], large):  # not in the order in which they were asked for
        assert second.answer(folder) == folder_files(folder, IMAGE_SUFFIXES) != None  # noqa: E711
    assert second.answer(os.fspath(tmp_path)) is None


def test_a_second_process_that_is_killed_leaves_the_folder_for_a_closer_look(
    tmp_path: Path, second: SecondReader
) -> None:
    folder = os.fspath(fill(tmp_path / "images"))
    process = second._process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    second.ask(folder)
    assert second.answer(folder) is None
    assert not second.has_room


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("killed", [False, True])
def test_a_large_tree_is_found_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, killed: bool
) -> None:
    for number in range(12):
        fill(tmp_path / f"{number:02d}")
    fill(tmp_path / "03" / "below")
    (tmp_path / "05" / "notes.txt").touch()
    (tmp_path / "07" / ".btignore").write_text("b.jpg\n")
    fill(tmp_path / "node_modules")
    (tmp_path / "08-link").symlink_to(tmp_path / "08")
    before = list(find_images([tmp_path]))
    readers: list[SecondReader] = []

    def started(suffixes: frozenset[str]) -> SecondReader:
        readers.append(SecondReader(suffixes))
        process = readers[-1]._process
        if killed and process is not None:
            process.kill()
        return readers[-1]

    monkeypatch.setattr(image_folder, "LARGE_TREE", 0)
    monkeypatch.setattr(image_folder, "processor_count", lambda: processors)
    monkeypatch.setattr(image_folder, "SecondReader", started)
    found = list(find_images([tmp_path]))
    assert found == before
    assert found == sorted(found, key=lambda file: path_key(file.path))
    assert len(found) == 13 * len(NAMES) - 1
    assert len(readers) == processors - 1
    assert all(reader._process is None for reader in readers)


def test_a_walk_that_is_given_up_ends_its_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        fill(tmp_path / f"{number:02d}")
    monkeypatch.setattr(image_folder, "LARGE_TREE", 0)
    monkeypatch.setattr(image_folder, "processor_count", lambda: 2)
    ended: list[bool] = []
    close = SecondReader.close

    def noted(reader: SecondReader) -> None:
        ended.append(reader._process is not None)
        close(reader)

    monkeypatch.setattr(SecondReader, "close", noted)
    walk = find_runs([tmp_path])
    assert isinstance(next(walk), FolderFiles)
    assert isinstance(next(walk), FolderFiles)
    walk.close()  # type: ignore[attr-defined]
    assert ended == [True]


def test_a_glob_asks_for_each_name(tmp_path: Path) -> None:
    fill(tmp_path / "images")
    exclusion = image_folder.Exclusion(("b.jpg",))
    found = list(find_runs([tmp_path], exclusion=exclusion))
    assert all(isinstance(file, ImageFile) for file in found)
    assert len(found) == len(NAMES) - 1
