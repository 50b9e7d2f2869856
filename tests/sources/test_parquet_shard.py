"""Images in Parquet files: which column, which rows, any order of reading, and files that are cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.datasets.image_folder import find_images
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.errors import UnreadableImage
from bt_cli.sources import parquet_shard
from bt_cli.sources.image_column import image_column
from bt_cli.sources.member import first_bytes, read_member
from bt_cli.sources.parquet_shard import ParquetShard, holds_images
from bt_cli.sources.url_list import is_url_list

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, images: list[bytes | None], *, group: int = 7, column: str = "image", plain: bool = False) -> str:
    rows = images if plain else [None if image is None else {"bytes": image, "path": "x.jpg"} for image in images]
    array = pa.array(rows, pa.large_binary() if plain else STRUCT)
    pq.write_table(pa.table({"label": list(range(len(images))), column: array}), path, row_group_size=group)
    return str(path)


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        (pa.schema([("image", STRUCT)]), "image"),
        (pa.schema([("JPG", pa.binary()), ("image", pa.string())]), "JPG"),
        (pa.schema([("jpg", pa.binary()), ("image", pa.large_binary())]), "image"),
        (pa.schema([("path", pa.large_binary()), ("embedding", pa.list_(pa.float32(), 2))]), None),
        (pa.schema([("image", pa.struct([("path", pa.string())]))]), None),
        (pa.schema([("image", pa.string())]), None),
    ],
)
def test_the_column_of_images(schema: pa.Schema, column: str | None) -> None:
    assert image_column(schema) == column


@pytest.mark.parametrize(
    "kind", [pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.dictionary(pa.int8(), pa.large_binary())]
)
def test_bytes_in_any_form_are_images(tmp_path: Path, kind: pa.DataType) -> None:
    images = [b"one", None, b"one", b"another"]
    column = pa.array(images, pa.binary())
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type).dictionary_encode().cast(kind)
    pq.write_table(pa.table({"image": column.cast(kind)}), tmp_path / "p.parquet")
    shard = ParquetShard(str(tmp_path / "p.parquet"))
    assert [member.size for member in shard.members] == [3, 0, 3, 7]
    assert [shard.read(f"{row:09d}") for row in (3, 0, 1, 2)] == [b"another", b"one", b"", b"one"]


@pytest.mark.parametrize("plain", [False, True])
def test_rows_are_read_in_any_order(tmp_path: Path, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [bytes([number]) * (number + 1) for number in range(50)]
    path = write(tmp_path / "p.parquet", [*images], plain=plain)
    monkeypatch.setattr(parquet_shard, "WINDOW", 100)
    monkeypatch.setattr(parquet_shard, "BATCH", 4)
    shard = ParquetShard(path)
    assert shard.damage is None
    assert [(member.name, member.size) for member in shard.members[8:10]] == [("000000008", 9), ("000000009", 10)]
    order = list(range(50)) * 2
    random.Random(0).shuffle(order)
    for row in [*range(50), *order]:
        assert shard.read(f"{row:09d}") == images[row]
    assert shard.read("000000040", 3) == images[40][:3]
    for name in ("000000050", "40", "-00000001", "x"):
        with pytest.raises(FileNotFoundError):
            shard.read(name)


def test_who_asks_in_no_order_has_each_row_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [random.Random(number).randbytes(number) for number in range(60)]
    shard = ParquetShard(write(tmp_path / "p.parquet", [*images], group=20))
    monkeypatch.setattr(parquet_shard, "WINDOW", 100)
    order = list(range(60))
    random.Random(1).shuffle(order)
    assert [shard.read(f"{row:09d}") for row in order] == [images[row] for row in order]
    last_of_groups = [19, 39, 59]
    assert [shard.read(f"{row:09d}") for row in last_of_groups] == [images[row] for row in last_of_groups]
    monkeypatch.setattr(ParquetShard, "_batches", None)  # whatever was passed is at hand
    passed = [row for row in order if row]
    assert [shard.read(f"{row:09d}") for row in passed] == [images[row] for row in passed]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=9), max_size=40), st.integers(1, 9), st.booleans())
def test_every_row_is_what_was_written(tmp_path_factory, images: list[bytes | None], group: int, plain: bool) -> None:
    path = write(tmp_path_factory.mktemp("p") / "p.parquet", images, group=group, plain=plain)
    shard = ParquetShard(path)
    assert [member.size for member in shard.members] == [len(image or b"") for image in images]
    assert [shard.read(member.name) for member in shard.members] == [image or b"" for image in images]


def test_a_path_leads_to_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", [b"one", b"two"])
    assert read_member(f"{path}/000000001") == b"two"
    assert first_bytes(f"{path}/000000001", 2) == b"tw"


def test_rows_without_an_image_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", [b"one", None, b"", b"two"])
    passed_over = PassedOver()
    found = [image.path for image in find_images([path], passed_over=passed_over)]
    assert found == [f"{path}/000000000", f"{path}/000000003"]
    assert sum(passed_over.suffixes.values()) == 2


def test_other_tables_stay_what_they_are(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"url": ["http://example.org/a.jpg"]}), table)
    assert not holds_images(str(table))
    assert is_url_list(str(table))
    both = tmp_path / "both.parquet"
    pq.write_table(pa.table({"url": ["http://example.org/a.jpg"], "jpg": [b"bytes"]}), both)
    assert holds_images(str(both))
    assert not is_url_list(str(both))


def test_a_cut_file_is_told(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "p.parquet", [b"one"] * 30)).read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        (tmp_path / "p.parquet").write_bytes(whole[:cut])
        told: list[tuple[str, OSError]] = []
        assert list(find_images([tmp_path], on_error=lambda *each, told=told: told.append(each))) == []
        assert [error.strerror for _, error in told] == ["shard is no whole Parquet file"], cut


def test_a_damaged_page_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_shard, "WINDOW", 2000)
    images = [random.Random(number).randbytes(500) for number in range(40)]
    path = Path(write(tmp_path / "p.parquet", [*images], group=10))
    content = bytearray(path.read_bytes())
    place = content.index(images[20]) - 60  # the head of the third group's page
    content[place : place + 60] = b"\xff" * 60
    sound = ParquetShard(str(path))
    path.write_bytes(content)
    damaged = ParquetShard(str(path))
    assert damaged.damage == "cut off or damaged after row 19"
    assert [member.name for member in damaged.members] == [f"{row:09d}" for row in range(20)]
    with pytest.raises(UnreadableImage, match="damaged there"):
        sound.read("000000025")


def test_images_that_fit_into_the_window_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [bytes([number]) * 100 for number in range(100)]
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [*images[:50], None, *images[50:]]}), path, row_group_size=30)
    read: list[int] = []
    through = ParquetShard._batches

    def counted(shard: ParquetShard, groups: range) -> Iterator[pa.Array]:
        for batch in through(shard, groups):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(ParquetShard, "_batches", counted)
    for window, times in ((1 << 20, 1), (100 * 100, 1), (100 * 100 - 1, 2), (350, 2)):
        monkeypatch.setattr(parquet_shard, "WINDOW", window)
        read.clear()
        shard = ParquetShard(path)
        found = [shard.read(member.name) for member in shard.members]
        assert found == [*images[:50], b"", *images[50:]]
        assert sum(read) == times * 101
