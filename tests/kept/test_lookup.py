"""Every kind of source says the same of the same pictures; what it lacks is named."""

from __future__ import annotations

import json
import os
import re
import tarfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder
from kept.kept_sources import NAMES, SOURCES, URL, WANTED, N, _add, folder, kept, parquet, picture, picture_server, tar

from bt_cli.errors import Misuse
from bt_cli.indexing.build import build_index
from bt_cli.indexing.table import encode_image_table
from bt_cli.kept.lookup import Lookup
from bt_cli.kept.names import kept_names
from bt_cli.kept.value import LONGEST, text_of
from bt_cli.store.manifest import Manifest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_says_the_same(kind: str) -> None:
    source = SOURCES[kind]()
    build_index(".bt", [source], FakeEncoder(), keep=NAMES)
    assert kept() == WANTED
    assert Manifest.read(".bt").keep == NAMES
    table = pyarrow.parquet.read_table(".bt/images.parquet")
    assert table.column_names[-5:] == [*NAMES, "embedding"]
    assert [table.schema.field(name).type for name in NAMES] == [pa.string()] * 4
    encode_image_table([source], "t.parquet", FakeEncoder(), keep=NAMES)
    encoded = pyarrow.parquet.read_table("t.parquet")
    assert encoded.column_names == table.column_names
    assert sorted(map(str, encoded.select(NAMES).to_pylist())) == sorted(map(str, table.select(NAMES).to_pylist()))


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet"])
def test_rows_of_a_list_of_addresses(home: Path, form: str) -> None:
    with picture_server(home / "site") as site:
        rows = [{"image_url": f"{site}/{n}.png", "caption": WANTED[n][1], "pixels": 10 * n} for n in range(N)]
        if form == "parquet":
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), "list.parquet")
        elif form == "jsonl":
            Path("list.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
        else:
            mark = "," if form == "csv" else "\t"
            lines = [["image_url", "caption", "pixels"]]
            lines += [[f"{each['image_url']}", f'"{each["caption"] or ""}"', str(each["pixels"])] for each in rows]
            Path(f"list.{form}").write_text("".join(mark.join(line) + "\n" for line in lines), "utf-8")
        build_index(".bt", [f"list.{form}"], FetchingEncoder(), keep=["url", "caption", "pixels"], allow_private=True)
        assert kept() == [(f"{site}/{n}.png", WANTED[n][1], f"{10 * n}") for n in range(N)]
        Path("urls.txt").write_text("".join(f"{site}/{n}.png\n" for n in range(N)), "utf-8")
        build_index("t", ["urls.txt"], FetchingEncoder(), keep=["url"], allow_private=True)
        assert kept("t") == [(f"{site}/{n}.png",) for n in range(N)]
        with pytest.raises(Misuse, match=r"--keep caption: no source .* the columns there are: url$"):
            build_index("t2", ["urls.txt"], FetchingEncoder(), keep=["caption"], allow_private=True)
    assert not os.path.exists("t2")


class FetchingEncoder(FakeEncoder):
    """Fetches what lies on the web."""

    def _batch(self, numbers, paths, captions=None):  # type: ignore[no-untyped-def]
        from bt_cli.preprocessing.image_file import read_image_file
        from bt_cli.sources.web_address import is_url

        fetched = list(paths)
        for number in numbers:
            if is_url(paths[number]):
                Path("fetched").mkdir(exist_ok=True)
                fetched[number] = f"fetched/{number}"
                Path(fetched[number]).write_bytes(read_image_file(paths[number]))
        return super()._batch(numbers, fetched, captions)


def test_key_and_texts_of_a_tar_shard() -> None:
    with tarfile.open("s.tar", "w") as archive:
        for name, content in {
            "a/1.png": picture(0),
            "a/1.txt": b"a red car\n",
            "a/2.png": picture(1),
            "a/2.txt": b"as written",
            "a/2.json": b'{"caption": "as found", "key": "other"}',
            "3.png": picture(2),
            "3.json": b"[1",
        }.items():
            _add(archive, name, content)
        _add(archive, "a/1.png", picture(3))
        _add(archive, "a/1.txt", b"the second")
    lookup = Lookup(["key", "caption", "txt"], ["s.tar"])
    paths = ["s.tar/a/1.png", "s.tar/a/2.png", "s.tar/3.png", "s.tar/a/1.png#2"]
    found = lookup.of(paths)
    assert found.values["key"].tolist() == ["a/1", "a/2", "3", "a/1"]
    assert found.values["caption"].tolist() == ["a red car", "as found", None, "the second"]
    assert found.values["txt"].tolist() == ["a red car", "as written", None, "the second"]
    assert found.known["caption"].tolist() == [True, True, False, True]
    assert lookup.remarks() == ["columns to keep that can't be read: s.tar/3.json: no JSON object"]


def test_a_name_that_no_source_has_is_refused_with_those_that_there_are() -> None:
    parquet()
    with pytest.raises(Misuse) as error:
        build_index(".bt", ["p.parquet"], FakeEncoder(), keep=["url", "ulr"])
    assert str(error.value) == (
        "--keep ulr: no source of these images has a column of that name; the columns there are: caption, pixels, "
        "tags, url"
    )
    assert not os.path.exists(".bt")
    with pytest.raises(Misuse, match="--keep ulr"):
        encode_image_table(["p.parquet"], "t.parquet", FakeEncoder(), keep=["ulr"])


def test_a_name_that_some_sources_lack_is_a_remark(caplog: pytest.LogCaptureFixture) -> None:
    folder()
    os.remove("folder/metadata.jsonl")
    os.rename("folder/0.png", "0.png")
    build_index(".bt", [parquet(), "folder", "0.png"], FakeEncoder(), keep=["url"])
    (said,) = caplog.messages
    assert re.fullmatch(
        r"--keep url: the sources of 6 of 12 images have no such column, as that of \S*folder/\S+\.png", said
    )


def test_the_nearest_metadata_file_counts() -> None:
    folder()
    Path("folder/sub/metadata.csv").write_text("file_name,url\n1.png,nearer\n\n3.png\n", "utf-8")
    lookup = Lookup(["url"], ["folder"])
    paths = [os.path.abspath(f"folder/sub/{n}.png") for n in (1, 3)]
    assert Lookup(["url"], [os.path.abspath("folder")]).of(paths).values["url"].tolist() == ["nearer", URL.format(3)]
    assert lookup.of(["folder/sub/1.png", "folder/2.png"]).values["url"].tolist() == ["nearer", URL.format(2)]
    assert lookup.unread_count == 1


def test_bytes_are_refused_and_long_values_left_out(caplog: pytest.LogCaptureFixture) -> None:
    said = [{"raw": b"x", "nest": {"a": [b"x"]}, "long": "y" * (LONGEST + (n == 2))} for n in range(N)]
    parquet(rows=said)
    for name in ("raw", "nest", "image"):
        with pytest.raises(Misuse, match=rf"--keep {name}: a column of bytes in p\.parquet"):
            Lookup([name], []).of(["p.parquet/000000000"])
    build_index(".bt", ["p.parquet"], FakeEncoder(), keep=["long"])
    assert [value is None for (value,) in kept()] == [n == 2 for n in range(N)]
    assert caplog.messages == ["--keep long: 1 values of more than 65,536 characters left out"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ü", "ü"),
        (5, "5"),
        (0.5, "0.5"),
        (float("nan"), None),
        (True, "true"),
        (None, None),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        (datetime(2024, 6, 3, 14), "2024-06-03T14:00:00"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ([datetime(2024, 6, 3)], '["2024-06-03T00:00:00"]'),
    ],
)
def test_values_as_texts(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_names() -> None:
    assert kept_names(["url, key", "url", "", ","]) == ["url", "key"]
    for word in ("size", "Path", "embedding", "taken", "id", "vector"):
        with pytest.raises(Misuse, match=f"--keep {word}: every table has a column of its own called {word.lower()}"):
            kept_names([word])
    for word in ("a\x07b", "x" * 300):
        with pytest.raises(Misuse, match="no name of a column"):
            kept_names([word])
    with pytest.raises(Misuse, match="--keep url,URL"):
        kept_names(["url,URL"])
    with pytest.raises(Misuse, match="an index keeps 64 at most"):
        kept_names([f"c{number}" for number in range(65)])


def test_damage_leaves_what_was_read_and_is_named() -> None:
    parquet()
    tar()
    content = Path("p.parquet").read_bytes()
    Path("p.parquet").write_bytes(content[: len(content) // 2])
    lookup = Lookup(["url"], [])
    found = lookup.of(["p.parquet/000000000", "s.tar/000000000.png"])
    assert found.known["url"].tolist() == [False, True]
    assert lookup.unread_count == 1
    lookup.require(["url"])
