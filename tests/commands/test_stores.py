"""Images in a store of objects through the commands, against a server of the S3 protocol on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from object_store import forget_stores, object_store
from PIL import Image

from bt_cli.store.index_folder import IndexFolder

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]


def png(number: int) -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (12 + number, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Iterator[Any]:
    """A bucket of eight images and a text, and the working directory with a folder of the same images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    (tmp_path / "photos").mkdir()
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="pictures")
        for number in range(8):
            store.put_object(Bucket="pictures", Key=f"cats/p {number}.png", Body=png(number))
            (tmp_path / "photos" / f"p {number}.png").write_bytes(png(number))
        store.put_object(Bucket="pictures", Key="cats/read me.txt", Body=b"cats")
        yield store


def contents(folder: str) -> dict[str, tuple[object, ...]]:
    with IndexFolder.open(folder) as index:
        rows = index.table(["path", "size", "content_hash", "width", "height", "embedding"]).to_pylist()
    return {row.pop("path").rpartition("/")[2]: tuple(map(str, row.values())) for row in rows}


def test_a_folder_of_a_store_is_indexed_and_updated_as_one_on_disk(bt: Bt, store: Any) -> None:
    assert bt("index", "photos", "--index", "disk").code == 0
    ran = bt("index", "s3://pictures/cats", "--json")
    assert ran.code == 0, ran.err
    assert (ran.objects[0]["added"], ran.objects[0]["passed_over"]) == (8, {".txt": 1})
    assert contents(".bt") == contents("disk")
    assert bt("index", "--json").objects[0]["unchanged"] == 8
    store.put_object(Bucket="pictures", Key="cats/p 0.png", Body=png(30))
    store.delete_object(Bucket="pictures", Key="cats/p 1.png")
    store.put_object(Bucket="pictures", Key="cats/more/p 9.png", Body=png(9))
    record = bt("index", "--json").objects[0]
    counts = {name: record[name] for name in ("added", "updated", "removed", "unchanged", "encoded")}
    assert counts == {"added": 1, "updated": 1, "removed": 1, "unchanged": 6, "encoded": 2}
    hits = bt("search", "a dog", "--rerank", "--json").objects
    assert len(hits) == 8
    assert all(hit["path"].startswith("s3://pictures/cats/") for hit in hits)
    assert bt("rerank", "a dog", *(hit["path"] for hit in hits), "--paths").out.split("\n")[0] == hits[0]["path"]
    assert (
        bt("search", "x", "--glob", "s3://pictures/cats/more/*", "--paths").out == "s3://pictures/cats/more/p 9.png\n"
    )


def test_a_store_that_can_not_be_reached_keeps_its_rows(bt: Bt, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bt("index", "s3://pictures/cats/", "photos").code == 0
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        forget_stores()
        ran = bt("index", "--json")
    forget_stores()
    assert ran.code == 0
    assert ran.objects[0]["unchanged"] == 16
    assert "skipped s3://pictures/cats/: Could not connect" in ran.err
    assert "not there now, or without images: s3://pictures/cats/ (8)" in ran.err
    assert bt("index", "photos", "--json").objects[0]["unchanged"] == 16
    ran = bt("index", "s3://pictures/none", "--index", "other")
    assert ran.code == 1
    assert "s3://pictures/none: no" in ran.err
    assert not Path("other").exists()


def test_an_object_is_a_query(bt: Bt, store: Any) -> None:
    assert bt("index", "photos").code == 0
    for given in (["s3://pictures/cats/p 2.png"], ["--image", "s3://pictures/cats/p 2.png"]):
        ran = bt("search", *given, "-k", "1", "--paths")
        assert (ran.code, ran.out) == (0, "photos/p 2.png\n"), ran.err
    ran = bt("search", "s3://pictures/none.png")
    assert (ran.code, ran.err.count("s3://pictures/none.png: no such file or folder")) == (1, 1)


def test_a_list_may_name_objects_and_what_is_missing_is_named(bt: Bt, store: Any) -> None:
    Path("urls.txt").write_text("s3://pictures/cats/p%203.png\ns3://pictures/gone.png\n")
    store.put_object(Bucket="pictures", Key="cats/p%203.png", Body=png(3))
    ran = bt("index", "urls.txt", "--json")
    assert (ran.objects[0]["added"], ran.objects[0]["skipped"]) == (1, 1)
    assert "skipped s3://pictures/gone.png: no such file or folder" in ran.err
