"""Images in data sets as `datasets` saves them: which files, which rows, and files that are cut or changed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest
from captioned_containers import IMAGE, rows_of, write_data_set

from bt_cli.captions.captions import read_captions
from bt_cli.datasets.image_folder import find_images
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.errors import UnreadableCaptions, UnreadableImage
from bt_cli.files.json_object import SETTINGS
from bt_cli.sources.arrow_shard import ArrowShard, has_images, holds_images
from bt_cli.sources.member import first_bytes, read_member

SAMPLES = {str(number): (bytes([number]) * (number + 1), [f"caption {number}"]) for number in range(10)}


def write(path: Path, table: pa.Table, *, file: bool = False, codec: str | None = None, rows: int = 3) -> str:
    made = pa.ipc.new_file if file else pa.ipc.new_stream
    with made(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return str(path)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("file", [False, True])
def test_rows_are_read_in_any_order(file: bool) -> None:
    path = write(Path("a.arrow"), rows_of(SAMPLES), file=file)
    shard = ArrowShard(path)
    assert shard.damage is None
    assert [(member.name, member.size) for member in shard.members[8:]] == [("000000008", 9), ("000000009", 10)]
    order = list(range(10)) * 2
    random.Random(0).shuffle(order)
    for row in order:
        assert shard.read(f"{row:09d}") == SAMPLES[str(row)][0]
    assert shard.read("000000004", 3) == SAMPLES["4"][0][:3]
    for name in ("000000010", "4", "-00000001", "x"):
        with pytest.raises(FileNotFoundError):
            shard.read(name)
    assert read_member(f"{path}/000000001") == SAMPLES["1"][0]
    assert first_bytes(f"{path}/000000001", 1) == b"\1"


def test_rows_without_an_image_and_other_files_are_counted() -> None:
    os.mkdir("set")
    images = pa.array([{"bytes": b"one", "path": None}, None, {"bytes": None, "path": "x.jpg"}], IMAGE)
    write(Path("set/a.arrow"), pa.table({"image": images}))
    write(Path("set/b.arrow"), pa.table({"text": ["no image"]}))
    passed_over = PassedOver()
    assert [image.path for image in find_images(["set"], passed_over=passed_over)] == ["set/a.arrow/000000000"]
    assert passed_over.suffixes == {".arrow": 1, "": 2}


def test_a_file_that_the_data_set_left_behind_is_none_of_it() -> None:
    write_data_set(Path("set"), SAMPLES)
    write(Path("set/data-00001-of-00002.arrow"), rows_of(SAMPLES))
    assert not holds_images("set/data-00001-of-00002.arrow")
    passed_over = PassedOver()
    assert len(list(find_images(["set"], passed_over=passed_over))) == 10
    assert passed_over.suffixes == {".arrow": 1, ".json": 2}


@pytest.mark.parametrize("state", ["pipe", "endless", "large", "[]", "{"])
def test_what_is_no_list_of_a_data_sets_files_says_nothing(state: str) -> None:
    os.mkdir("set")
    write(Path("set/a.arrow"), rows_of(SAMPLES))
    if state == "pipe":
        os.mkfifo("set/state.json")
    elif state == "endless":
        os.symlink("/dev/zero", "set/state.json")
    else:
        Path("set/state.json").write_text(" " * (SETTINGS + 1) if state == "large" else state)
    assert holds_images("set/a.arrow")


def test_a_cut_file_is_told_wherever_it_is_cut() -> None:
    whole = Path(write(Path("a.arrow"), rows_of(SAMPLES), rows=4)).read_bytes()
    told = set()
    for cut in range(0, len(whole), 13):
        Path("a.arrow").write_bytes(whole[:cut])
        shard = ArrowShard("a.arrow")
        told.add(shard.damage)
        for row, member in enumerate(shard.members):
            assert shard.read(member.name) == SAMPLES[str(row)][0]
    rows = [f"cut off or damaged after row {row}" for row in (3, 7, 9)]
    assert told == {"is no whole Arrow file", *rows}
    Path("a.arrow").write_bytes(whole[:-8])
    errors: list[UnreadableCaptions] = []
    assert len(read_captions("a.arrow", on_skip=errors.append)) == 10
    assert [str(error) for error in errors] == ["a.arrow: no whole Arrow file: no end of the stream"]


def test_a_file_that_shrinks_while_it_is_open_is_refused() -> None:
    path = write(Path("a.arrow"), rows_of(SAMPLES))
    shard = ArrowShard(path)
    os.truncate(path, 100)
    with pytest.raises(UnreadableImage, match="the file was changed while it was read"):
        shard.read("000000009")


def test_places_beyond_the_file_are_refused() -> None:
    path = Path(write(Path("a.arrow"), pa.table({"image": [b"0123456789" * 9] * 3}), rows=3))
    content = path.read_bytes()
    places = (0).to_bytes(4, "little") + (90).to_bytes(4, "little")
    at = content.index(places) + 4
    path.write_bytes(content[:at] + (1 << 30).to_bytes(4, "little") + content[at + 4 :])
    shard = ArrowShard(str(path))
    assert (shard.members, shard.damage) == ([], "is no whole Arrow file")


def test_compressed_files_are_refused_by_name() -> None:
    shard = ArrowShard(write(Path("a.arrow"), rows_of(SAMPLES), codec="zstd"))
    assert shard.members == []
    assert shard.damage == "compressed from row 0 on, which is not read: save it again, or as Parquet"


def test_a_table_that_only_names_its_images_has_none() -> None:
    images = pa.array([{"bytes": None, "path": "x.jpg"}], IMAGE)
    assert not has_images(write(Path("a.arrow"), pa.table({"image": images})))
    assert has_images(write(Path("b.arrow"), rows_of(SAMPLES)))


def test_what_datasets_itself_saves() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "text": datasets.List(datasets.Value("string"))}
    )
    images = [{"bytes": image, "path": None} for image, _ in SAMPLES.values()]
    texts = [captions for _, captions in SAMPLES.values()]
    made = datasets.Dataset.from_dict({"image": images, "text": texts}, features=features)
    datasets.disable_progress_bars()
    made.save_to_disk("one", num_shards=2)
    assert [read_member(image.path) for image in find_images(["one"])] == [image for image, _ in SAMPLES.values()]
    splits = datasets.DatasetDict({"train": made.shuffle(seed=1).select(range(6)), "rest": made.select([7, 8])})
    splits.save_to_disk("both")
    found = read_captions("both", images="both")
    assert [(item.image, item.text, item.split) for item in found.items[:2]] == [
        ("both/rest/data-00000-of-00001.arrow/000000000", "caption 7", "rest"),
        ("both/rest/data-00000-of-00001.arrow/000000001", "caption 8", "rest"),
    ]
    for item, row in zip(read_captions("both", split="train", images="both").items, splits["train"], strict=True):
        assert (item.text, read_member(item.image or "")) == (row["text"][0], row["image"]["bytes"])
