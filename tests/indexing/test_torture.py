"""Bits that flip, bytes that change, files that are swapped: no wrong answer, and mended where the table is whole."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.captions.captions import Caption
from bt_cli.errors import BrokenIndex, BtError
from bt_cli.files.block_sums import damaged
from bt_cli.indexing.build import build_index
from bt_cli.store.index_folder import IndexFolder

TRIES = 150


def made(folder: Path, word: str) -> None:
    for number in range(30):
        file = folder / f"photos/{number % 4}/{number:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%s %02d" % (word.encode(), number))
    captions = [Caption(f"{word} {number}", image=f"{number % 4}/{number:02d}.jpg") for number in range(12)]
    build_index(folder / ".bt", [folder / "photos"], FakeEncoder(), captions=[("c.csv", captions)])


def answers(folder: Path) -> list[object]:
    """All that can be asked of an index."""
    with IndexFolder.open(folder) as index:
        captions = index.captions
        assert captions is not None
        queries = np.stack([embedding_of(b"query %d" % number) for number in range(3)])
        found = [*index.search(queries, 30), *captions.search(queries, 12)]
        every = range(len(index))
        paths = [index.stored_path(number) for number in every]
        texts, owners = captions.texts(range(len(captions))), captions.image_ids(range(len(captions))).tolist()
        return [*(part.tolist() for part in found), paths, texts, owners, index.matching("0*.jpg").tolist()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    made(folder, "one")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another index of the same size."""
    folder = tmp_path_factory.mktemp("other")
    made(folder, "two")
    return folder


def plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink() and path.name != "lock")


def outcome(folder: Path, expected: list[object]) -> str:
    try:
        found = answers(folder)
    except BtError as error:
        message = str(error)
    else:
        assert found == expected, "a wrong answer"
        return "right"
    assert "\n" not in message
    assert "bt index" in message
    return "refused"


def mended(folder: Path) -> bool:
    """Whether `bt index` mends it, and without encoding."""
    encoder = FakeEncoder()
    try:
        build_index(folder, [], encoder)
    except BtError:
        return False
    assert encoder.encoded == []
    assert encoder.texts == []
    return True


def test_single_bits_and_bytes(whole: Path, tmp_path: Path) -> None:
    expected = answers(whole / ".bt")
    chance = random.Random(20261125)
    outcomes = []
    for number in range(TRIES):
        folder = whole / f".t{number}"
        shutil.copytree(whole / ".bt", folder, symlinks=True)
        file = chance.choice(plain_files(folder))
        content = bytearray(file.read_bytes())
        place = chance.randrange(len(content))
        content[place] = chance.randrange(256) if number % 2 else content[place] ^ (1 << chance.randrange(8))
        file.write_bytes(content)
        what = outcome(folder, expected)
        outcomes.append(what)
        if what == "refused" and not file.name.endswith(".parquet"):
            assert mended(folder), file.name
        if what == "refused" and mended(folder):
            assert outcome(folder, expected) == "right"
        shutil.rmtree(folder)
    assert outcomes.count("refused") > TRIES // 4


def test_files_of_another_index(whole: Path, other: Path) -> None:
    expected = answers(whole / ".bt")
    for file in plain_files(whole / ".bt"):
        folder = whole / ".swapped"
        if file.read_bytes() == (other / ".bt" / file.name).read_bytes():
            continue  # the captions belong to the same rows
        shutil.copytree(whole / ".bt", folder, symlinks=True)
        shutil.copy(other / ".bt" / file.name, folder / file.name)
        what = outcome(folder, expected)
        assert what == "refused" or file.suffix == ".parquet" or file.name.startswith("manifest-"), file.name
        shutil.rmtree(folder)


def test_a_file_replaced_by_a_folder(whole: Path) -> None:
    expected = answers(whole / ".bt")
    for file in plain_files(whole / ".bt"):
        folder = whole / ".folder"
        shutil.copytree(whole / ".bt", folder, symlinks=True)
        (folder / file.name).unlink()
        (folder / file.name).mkdir()
        what = outcome(folder, expected)
        assert what == "refused" or file.suffix == ".parquet" or file.name.startswith("manifest-"), file.name
        if not file.name.endswith(".parquet"):
            assert mended(folder), file.name
            assert outcome(folder, expected) == "right"
        shutil.rmtree(folder)


@pytest.mark.parametrize("table", ["images", "captions"])
def test_a_table_of_another_index_is_not_read(whole: Path, other: Path, table: str) -> None:
    """Page checksums alone would take it: it is whole, and another index's."""
    folder = whole / ".table"
    shutil.copytree(whole / ".bt", folder, symlinks=True)
    name = next(path.name for path in plain_files(folder) if path.name.startswith(table + "-"))
    shutil.copy(other / ".bt" / name, folder / name)
    with IndexFolder.open(folder) as index:
        for read in (index.table, lambda: list(index.batches())) if table == "images" else (index.captions.batches,):
            with pytest.raises(BrokenIndex) as caught:
                list(read())
            assert str(caught.value) == str(damaged(folder / name))
    shutil.rmtree(folder)


def caption_table(folder: Path) -> None:
    with IndexFolder.open(folder) as index:
        list(index.captions.batches())


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_no_file_is_waited_for_that_is_no_file(whole: Path, make: Callable[[Path], None]) -> None:
    for file in plain_files(whole / ".bt"):
        folder = whole / ".pipe"
        shutil.copytree(whole / ".bt", folder, symlinks=True)
        (folder / file.name).unlink()
        make(folder / file.name)
        if file.name.startswith("manifest-"):
            answers(folder)
        else:
            read = caption_table if file.name.startswith("captions-") else answers
            with pytest.raises(BrokenIndex, match="not a (regular )?file; "):
                read(folder)
        shutil.rmtree(folder)
