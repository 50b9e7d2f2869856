"""`bt export`: what the real LanceDB, Qdrant, webdataset and NumPy read is what the index holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from indexing.fake_encoder import DIMENSION, FakeEncoder
from PIL import Image

from bt_cli.captions.captions import Caption
from bt_cli.indexing.build import build_index
from bt_cli.store import index_writer
from bt_cli.store.index_folder import IndexFolder

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
NAMES = [os.fsdecode(b"caf\xe9.png"), "no suffix", *(f"p{number:02}.png" for number in range(12)), "two\nlines.png"]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexFolder]:
    """An index in two pieces with a row deleted from the first, and captions for two of its images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_writer, "SMALL_PIECE", 3)
    os.mkdir("photos")
    for number, name in enumerate([*NAMES, "gone.png"]):
        Image.new("RGB", (8 + number, 8), (15 * number, 0, 99)).save(tmp_path / "photos" / name, "PNG")
    late = tmp_path / "photos" / "p05.png"
    late.rename(tmp_path / "late")
    build_index(".bt", ["photos"], FakeEncoder())
    (tmp_path / "late").rename(late)
    os.remove("photos/gone.png")
    captions = [Caption("a red car", "p01.png"), Caption("two\ndogs", "p01.png"), Caption("a tree", None)]
    build_index(".bt", ["photos"], FakeEncoder(), captions=[("c", captions)])
    with IndexFolder.open(".bt") as folder:
        assert len(folder.pieces) == 2
        assert sum(len(piece.deleted) for piece in folder.pieces) == 1
        yield folder


def vectors(folder: IndexFolder) -> np.ndarray:
    return folder.vectors_of(np.arange(len(folder)))


def stored(folder: IndexFolder) -> list[str]:
    return [folder.stored_path(number) for number in range(len(folder))]


def answers(folder: IndexFolder, query: np.ndarray, k: int = 5) -> list[int]:
    return [int(number) for number in folder.search(query, k)[1][0]]


def queries() -> Iterator[np.ndarray]:
    for seed in range(5):
        vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
        yield vector / np.linalg.norm(vector)


def test_lancedb_has_every_row_and_finds_the_same(index: IndexFolder, bt: Bt) -> None:
    import lancedb

    ran = bt("export", "--to", "lancedb", "-o", "lance", "--json")
    assert ran.code == 0, ran.err
    assert {**ran.objects[0], "seconds": 0} == {
        "to": "lancedb", "output": "lance", "images": 15, "captions": 3, "skipped": 0, "seconds": 0,
    }  # fmt: skip
    table = lancedb.connect("lance").open_table("images")
    rows = table.to_arrow()
    assert rows.column("id").to_pylist() == list(range(15))
    assert rows.column_names == [
        "id", "path", "path_bytes", "size", "mtime", "content_hash", "width", "height",
        "taken", "taken_offset", "camera", "latitude", "longitude", "vector",
    ]  # fmt: skip
    names = [
        text if raw is None else os.fsdecode(raw)
        for text, raw in zip(rows.column("path").to_pylist(), rows.column("path_bytes").to_pylist(), strict=True)
    ]
    assert names == stored(index)
    found = np.array(rows.column("vector").to_pylist(), np.float32)
    np.testing.assert_array_equal(found, vectors(index))
    for query in queries():
        asked: Any = table.search(query)
        hits = asked.distance_type("dot").limit(5).to_list()
        assert [hit["id"] for hit in hits] == answers(index, query)
    texts = lancedb.connect("lance").open_table("images_captions").to_arrow()
    assert texts.column("caption").to_pylist() == ["a red car", "two\ndogs", "a tree"]
    owner = stored(index).index("photos/p01.png")
    assert texts.column("image_id").to_pylist() == [owner, owner, None]
    assert rows.schema.metadata[b"bt.checkpoint"] == b"fake"


def test_qdrant_has_every_row_and_finds_the_same(index: IndexFolder, bt: Bt) -> None:
    from qdrant_client import QdrantClient

    ran = bt("export", "--to", "qdrant", "-o", "qdrant", "--name", "pictures")
    assert ran.code == 0, ran.err
    client = QdrantClient(path="qdrant")
    points, _ = client.scroll("pictures", limit=100, with_vectors=True)
    assert [point.id for point in points] == list(range(15))
    payloads = [point.payload or {} for point in points]
    json.dumps(payloads, ensure_ascii=False).encode("utf-8")  # as it goes to a server
    names = [bytes.fromhex(found["path_bytes"]) if "path_bytes" in found else found["path"] for found in payloads]
    assert [os.fsdecode(name) for name in names] == stored(index)
    assert "photos/caf\\xe9.png" in {found["path"] for found in payloads}
    np.testing.assert_allclose([point.vector for point in points], vectors(index), atol=1e-6)
    for query in queries():
        hits = client.query_points("pictures", query=query.tolist(), limit=5).points
        assert [hit.id for hit in hits] == answers(index, query)
    texts, _ = client.scroll("pictures_captions", limit=100)
    assert [(point.payload or {})["caption"] for point in texts] == ["a red car", "two\ndogs", "a tree"]
    assert (client.get_collection("pictures").config.metadata or {})["bt.checkpoint"] == "fake"
    client.close()


def test_webdataset_has_each_picture_with_its_row_and_vector(index: IndexFolder, bt: Bt) -> None:
    import webdataset

    os.rename("photos/p03.png", "away")
    ran = bt("export", "--to", "webdataset", "-o", "shards", "--shard-size", "6")
    assert ran.code == 0
    assert "skipped photos/p03.png: no such file" in ran.err.replace(f"{os.getcwd()}/", "")
    assert "14 images and 2 captions written to shards for webdataset" in ran.err
    assert sorted(os.listdir("shards")) == ["00000.tar", "00001.tar", "00002.tar"]
    samples = list(
        webdataset.WebDataset([f"shards/{name}" for name in sorted(os.listdir("shards"))], shardshuffle=False)
    )
    kept = [number for number, path in enumerate(stored(index)) if path != "photos/p03.png"]
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in kept]
    for number, sample in zip(kept, samples, strict=True):
        path = index.stored_path(number)
        assert sample["png"] == Path(path).read_bytes()
        record = json.loads(sample["json"])
        assert (record["path"], record["id"], record["height"]) == (path, number, record["height"])
        assert sample.get("txt") == (b"a red car\ntwo dogs" if path == "photos/p01.png" else None)
    decoded = list(webdataset.WebDataset("shards/00000.tar", shardshuffle=False).decode("pil"))
    np.testing.assert_array_equal([sample["npy"] for sample in decoded], vectors(index)[kept[:6]])
    assert decoded[0]["png"].size[1] == 8
    os.rename("away", "photos/p03.png")
    Path("shards/notes.txt").write_text("mine")
    assert bt("export", "--to", "webdataset", "-o", "shards", "--overwrite").code == 0
    assert sorted(os.listdir("shards")) == ["00000.tar", "notes.txt"]


def test_npy_has_the_vectors_as_they_are_stored(index: IndexFolder, bt: Bt) -> None:
    ran = bt("export", "--to", "npy", "-o", "x.npy", "--absolute-paths")
    assert ran.code == 0, ran.err
    found = np.load("x.npy", mmap_mode="r")
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found.astype(np.float32), vectors(index))
    rows = [json.loads(line) for line in Path("x.rows.jsonl").read_bytes().splitlines()]
    assert [row["path"] for row in rows] == [os.path.join(os.getcwd(), path) for path in stored(index)]
    assert [row["id"] for row in rows] == list(range(15))
    assert np.load("x.captions.npy").shape == (3, DIMENSION)
    assert len(Path("x.captions.rows.jsonl").read_bytes().splitlines()) == 3


@pytest.mark.parametrize(("to", "out"), [("lancedb", "db"), ("qdrant", "db"), ("webdataset", "db"), ("npy", "db.npy")])
def test_what_is_there_is_replaced_only_when_asked(index: IndexFolder, bt: Bt, to: str, out: str) -> None:
    assert bt("export", "--to", to, "-o", out).code == 0
    before = contents(Path("."))
    again = bt("export", "--to", to, "-o", out)
    assert again.code == 2
    assert again.err.count("\n") == 1
    assert "--overwrite" in again.err
    if to != "qdrant":  # which writes its own lock and settings on opening
        assert contents(Path(".")) == before
    assert bt("export", "--to", to, "-o", out, "--overwrite").code == 0


def contents(folder: Path) -> dict[str, Any]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "npy", "-o", "x.bin"], 2, "bt: x.bin: the array's name ends in .npy\n"),
        (["--to", "lancedb", "-o", "file"], 1, None),
        (["--to", "qdrant", "-o", "file"], 1, None),
        (["--to", "webdataset", "-o", "file"], 1, "bt: file/00000.tar: can't be written: a file stands where"),
        (["--to", "milvus", "-o", "x"], 2, None),
        (["--to", "npy"], 2, None),
        (["--to", "npy", "-o", "x.npy", "--index", "none"], 1, "bt: none: no index here"),
    ],
)
def test_refusals_are_one_line(
    index: IndexFolder, bt: Bt, arguments: list[str], code: int, message: str | None
) -> None:
    Path("file").write_text("mine")
    ran = bt("export", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1), ran.err
    assert message is None or ran.err.startswith(message)
    assert Path("file").read_text() == "mine"
