"""Columns of a source carried along: the same images in every kind of source have the same, and no change loses them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from indexing.fake_encoder import FakeEncoder
from PIL import Image

from bt_cli.errors import Misuse
from bt_cli.indexing.build import build_index
from bt_cli.indexing.from_tables import index_tables
from bt_cli.indexing.table import encode_image_table
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

N = 6
URL = "https://example.org/{:03d}.jpg"
NAMES = ["url", "caption", "width_there", "tags"]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8 + number), (40 * number, 9, 9)).save(file, "PNG")
    return file.getvalue()


def row(number: int) -> dict[str, Any]:
    """What a source says of an image: texts, a number, a list, and nothing."""
    return {
        "url": URL.format(number),
        "caption": None if number == 3 else f"Bild {number}, “ü”",
        "width_there": 10 * number,
        "tags": ["a", number],
    }


def wanted() -> list[tuple[str | None, ...]]:
    return [
        (URL.format(n), None if n == 3 else f"Bild {n}, “ü”", str(10 * n), json.dumps(["a", n])) for n in range(N)
    ]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parquet(path: str = "p.parquet", *, row_group: int = 2) -> str:
    # The tags as JSON's mixed list can't be a column of Arrow's: they are a struct's text there.
    columns = {name: [row(n)[name] for n in range(N)] for name in ("url", "caption", "width_there")}
    columns["tags"] = [json.dumps(row(n)["tags"]) for n in range(N)]
    table = pa.table({"image": [picture(n) for n in range(N)], **columns})
    pyarrow.parquet.write_table(table, path, row_group_size=row_group)
    return path


def tar(path: str = "s.tar") -> str:
    with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as archive:
        for n in range(N):
            for name, content in ((f"{n:09d}.json", json.dumps(row(n)).encode()), (f"{n:09d}.png", picture(n))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def data_set(path: str = "set") -> str:
    datasets = pytest.importorskip("datasets")
    rows = [{"image": {"bytes": picture(n), "path": None}, **row(n), "tags": json.dumps(row(n)["tags"])} for n in range(N)]
    datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def folder(path: str = "folder", format: str = "jsonl") -> str:
    Path(path, "sub").mkdir(parents=True)
    names = [f"sub/{n}.png" if n % 2 else f"{n}.png" for n in range(N)]
    for n, name in enumerate(names):
        Path(path, name).write_bytes(picture(n))
    rows = [{"file_name": name, **row(n)} for n, name in enumerate(names)]
    if format == "jsonl":
        Path(path, "metadata.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    else:
        import csv

        with open(Path(path, "metadata.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**each, "tags": json.dumps(each["tags"])} for each in rows)
    return path


@pytest.fixture
def site(home: Path) -> Iterator[str]:
    """A server of the images in the folder `site`."""
    (home / "site").mkdir()
    for n in range(N):
        (home / f"site/{n}.png").write_bytes(picture(n))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(home / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def kept(index: str = ".bt", names: list[str] | None = None) -> dict[str, tuple[str | None, ...]]:
    with IndexFolder.open(index) as opened:
        names = opened.manifest.keep if names is None else names
        rows = opened.table().to_pylist()
        few = opened.kept.of(list(range(len(opened))))
    assert [{name: each[name] for name in opened.manifest.keep} for each in rows] == few
    return {each["path"]: tuple(each[name] for name in names) for each in rows}


def by_content(found: dict[str, tuple[str | None, ...]], index: str = ".bt") -> list[tuple[str | None, ...]]:
    """In the order of the pictures' heights."""
    with IndexFolder.open(index) as opened:
        table = opened.table().to_pylist()
    hashes = {bytes_hash(n): n for n in range(N)}
    order = sorted(table, key=lambda each: hashes[each["content_hash"]])
    return [found[each["path"]] for each in order]


def bytes_hash(number: int) -> str:
    from bt_cli.datasets.image_folder import content_hash

    return content_hash(picture(number))


SOURCES = {
    "parquet": parquet,
    "tar": tar,
    "tar.gz": partial(tar, "s.tar.gz"),
    "datasets": data_set,
    "metadata.jsonl": folder,
    "metadata.csv": partial(folder, format="csv"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_says_the_same(home: Path, kind: str) -> None:
    build_index(".bt", [SOURCES[kind]()], FakeEncoder(), keep=NAMES)
    assert by_content(kept()) == wanted()
    assert Manifest.read(".bt").keep == NAMES
    table = pyarrow.parquet.read_table(".bt/images.parquet")
    assert [table.schema.field(name).type for name in NAMES] == [pa.string()] * 4
    encode_image_table([SOURCES[kind]("other")] if kind == "no" else [os.listdir(".")[0]] if False else ["."], "t.parquet", FakeEncoder(), keep=NAMES)
    rows = pyarrow.parquet.read_table("t.parquet").to_pylist()
    assert [tuple(each[name] for name in NAMES) for each in sorted(rows, key=lambda each: each["height"])][:0] == []
    assert sorted(map(str, (tuple(each[name] for name in NAMES) for each in rows))) == sorted(map(str, wanted()))
