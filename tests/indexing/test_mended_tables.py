"""A damaged Parquet table of an index, mended by `bt index` from what is whole beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torture.stores import SMALL, PictureEncoder, WholeIndex, content_of, pictures_in

from bt_cli.errors import BrokenIndex
from bt_cli.files.block_sums import damaged
from bt_cli.indexing.build import build_index
from bt_cli.planning.file_facts import file_facts
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest


@pytest.fixture
def whole(tmp_path: Path) -> WholeIndex:
    return WholeIndex.small(tmp_path / "one", 1)


def table_of(whole: WholeIndex, captions: bool = False) -> Path:
    manifest = Manifest.read(whole.folder)
    return whole.folder / (manifest.captions if captions else manifest.pieces[0]).table


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def page_of(file: Path, column: str) -> int:
    """A byte in the middle of a column's only page."""
    import pyarrow.parquet

    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
    found = next(
        group.column(number) for number in range(group.num_columns) if group.column(number).path_in_schema == column
    )
    return found.data_page_offset + found.total_compressed_size - 5


def index_again(whole: WholeIndex) -> PictureEncoder:
    encoder = PictureEncoder()
    build_index(whole.folder, [], encoder)
    assert {path.name for path in whole.folder.glob("*-*.*")} == Manifest.read(whole.folder).files()
    return encoder


@pytest.mark.parametrize("column", ["path", "size", "mtime", "content_hash", "width", "embedding.list.element"])
def test_one_bit_of_a_column(whole: WholeIndex, column: str) -> None:
    table = table_of(whole)
    flip(table, page_of(table, column))
    encoder = index_again(whole)
    assert (encoder.encoded, encoder.texts) == ([], [])
    assert content_of(whole.folder) == whole.content


@pytest.mark.parametrize(
    "harm",
    [
        lambda table: table.unlink(),
        lambda table: os.truncate(table, 0),
        lambda table: os.truncate(table, table.stat().st_size // 2),
        lambda table: flip(table, -20),
        lambda table: table.write_bytes(os.urandom(table.stat().st_size)),
        lambda table: shutil.copy(next(table.parent.glob("captions-*")), table),
    ],
    ids=["gone", "empty", "cut", "end", "noise", "captions"],
)
def test_a_table_that_is_lost_altogether(whole: WholeIndex, harm: Callable[[Path], None]) -> None:
    """Sizes, times and hashes are those of the files: the sums of the table prove it."""
    harm(table_of(whole))
    encoder = index_again(whole)
    assert (encoder.encoded, encoder.texts) == ([], [])
    assert content_of(whole.folder) == whole.content


def test_what_can_not_be_proved_is_encoded_again(
    whole: WholeIndex, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = whole.folder.parent / "photos" / "0" / "0000.bmp"
    Image.new("RGB", (2, 2), (9, 9, 9)).save(changed)
    table_of(whole).unlink()
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    encoder = index_again(whole)
    assert len(encoder.encoded) == SMALL
    after = content_of(whole.folder)
    assert after["table"] != whole.content["table"]
    assert [row[0] for row in after["table"]] == [row[0] for row in whole.content["table"]]
    rebuilt = WholeIndex.of(whole.folder).content
    build_index(whole.folder, [whole.folder.parent / "photos"], PictureEncoder(), rebuild=True)
    assert content_of(whole.folder)["vectors"] == rebuilt["vectors"]


def test_rows_of_pictures_that_are_away_stay(whole: WholeIndex) -> None:
    photos = whole.folder.parent / "photos"
    photos.rename(whole.folder.parent / "away")
    table_of(whole).unlink()
    encoder = index_again(whole)
    assert encoder.encoded == []
    with IndexFolder.open(whole.folder) as index:
        assert len(index) == SMALL
        assert index.search(np.eye(16, dtype=np.float32)[:1], 3)[1].shape == (1, 3)
    (whole.folder.parent / "away").rename(photos)
    assert len(index_again(whole).encoded) == SMALL
    assert content_of(whole.folder)["vectors"] == whole.content["vectors"]


def test_a_table_of_another_index_is_not_believed(whole: WholeIndex, tmp_path: Path) -> None:
    """It is whole, and its paths, sizes and times are the same: its hashes would make known what never was encoded."""
    other = WholeIndex.small(tmp_path / "two", 2)
    shutil.copy(table_of(other), table_of(whole))
    encoder = index_again(whole)
    assert encoder.encoded == []
    assert content_of(whole.folder) == whole.content


@pytest.mark.parametrize("column", ["caption", "image", "embedding.list.element"])
def test_captions(whole: WholeIndex, column: str) -> None:
    table = table_of(whole, captions=True)
    flip(table, page_of(table, column))
    encoder = index_again(whole)
    assert (encoder.encoded, encoder.texts) == ([], [])
    assert content_of(whole.folder) == whole.content


@pytest.mark.parametrize("harm", ["ids", "vectors too", "strings too"])
def test_what_nothing_else_has_is_refused(whole: WholeIndex, harm: str) -> None:
    entry = Manifest.read(whole.folder).captions
    table = table_of(whole, captions=True)
    flip(table, page_of(table, "caption_id" if harm == "ids" else "caption"))
    if harm != "ids":
        flip(whole.folder / (entry.vectors if harm == "vectors too" else entry.strings), -3)
    before = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    with pytest.raises(BrokenIndex) as caught:
        build_index(whole.folder, [], PictureEncoder())
    assert str(caught.value) == str(damaged(table))
    after = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    assert {name: content for name, content in after.items() if name in before} == before


def test_facts_of_a_file(tmp_path: Path) -> None:
    (file,) = pictures_in(tmp_path, 1, 1)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, exif=exif)
    facts, shown = file_facts(str(file)), file_facts(str(turned))
    assert facts is not None
    assert shown is not None
    assert [facts.size[0], facts.mtime[0], facts.width[0], facts.height[0]] == [file.stat().st_size, 10**18, 2, 2]
    assert [shown.width[0], shown.height[0]] == [20, 30]
    assert file_facts(str(tmp_path / "none.jpg")) is None
    assert file_facts("https://example.org/a.jpg") is None
