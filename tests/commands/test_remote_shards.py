"""Tar shards on the web and in a store, through the commands: equal to the folder, and kept while they are away."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from object_store import PartsServer, forget_stores, object_store, parts_server

from bt_cli.sources import tar_shard
from bt_cli.store.index_folder import IndexFolder

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
OPEN = "--allow-private-urls"
NAMES = [f"scene-{number:04}.jpg" for number in range(1, 13)]
SCENES = Path(__file__).parents[2] / "sample_data" / "images"


def tar(names: list[str], packed: bool = False) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz" if packed else "w") as archive:
        for name in names:
            archive.add(SCENES / name, name)
    return written.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    monkeypatch.setattr(tar_shard, "_asked", {})
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        (tmp_path / "photos" / name).write_bytes((SCENES / name).read_bytes())
    return tmp_path


@pytest.fixture
def server() -> Iterator[PartsServer]:
    with parts_server() as server:
        yield server


def contents(folder: str) -> dict[str, tuple[object, ...]]:
    with IndexFolder.open(folder) as index:
        rows = index.table(["path", "size", "content_hash", "width", "height", "embedding"]).to_pylist()
    return {row.pop("path").rpartition("/")[2]: tuple(map(str, row.values())) for row in rows}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_shard_on_the_web(bt: Bt, server: PartsServer, suffix: str) -> None:
    server.files[f"/a{suffix}"] = tar(NAMES, suffix == ".tar.gz")
    url = f"{server.url}/a{suffix}"
    ran = bt("index", url)
    assert ran.code == 1
    assert "not a public address" in ran.err
    assert bt("index", "photos", "--index", "disk").code == 0
    ran = bt("index", url, OPEN, "--json")
    assert ran.code == 0, ran.err
    assert ran.objects[0]["added"] == 12
    assert contents(".bt") == contents("disk")
    server.asked.clear()
    assert bt("index", OPEN, "--json").objects[0]["unchanged"] == 12
    assert server.asked == [(f"/a{suffix}", "bytes=0-0")]
    hits = bt("search", "a red car", "--rerank", "--json", OPEN).objects
    there = bt("search", "a red car", "--rerank", "--json", "--index", "disk").objects
    assert [(hit["path"].rpartition("/")[2], hit["itm_logit"]) for hit in hits] == [
        (hit["path"].rpartition("/")[2], hit["itm_logit"]) for hit in there
    ]
    assert hits[0]["path"].startswith(f"{url}/scene-")
    best = bt("rerank", "a red car", url, OPEN, "--paths").out.splitlines()
    assert best == [hit["path"] for hit in hits] + [path for path in best if path not in {hit["path"] for hit in hits}]
    server.files[f"/a{suffix}"] = tar(NAMES[2:], suffix == ".tar.gz")
    record = bt("index", OPEN, "--json").objects[0]
    assert (record["removed"], record["encoded"]) == (2, 10)
    del server.files[f"/a{suffix}"]
    ran = bt("index", OPEN, "--json")
    assert (ran.code, ran.objects[0]["unchanged"]) == (0, 10)
    assert f"skipped {url}: the server says 404" in ran.err
    assert f"not there now, or without images: {url} (10)" in ran.err
    assert bt("encode", "images", url, OPEN, "-o", "x.npy").code == 1


def test_shards_in_a_store(bt: Bt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bt("index", "photos", "--index", "disk").code == 0
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="shards")
        for number, names in enumerate((NAMES[:5], NAMES[5:])):
            store.put_object(Bucket="shards", Key=f"wds/{number}.tar", Body=tar(names))
        for given in ("s3://shards/wds", "s3://shards/wds/*.tar", "s3://shards/wds/{0..1}.tar"):
            assert bt("index", given, "--index", "there", "--rebuild").code == 0, given
            assert contents("there") == contents("disk")
        damaged = tar(NAMES[5:])[:-40_000]
        store.put_object(Bucket="shards", Key="wds/1.tar", Body=damaged)
        ran = bt("index", "--index", "there", "--json")
        assert ran.code == 0
        assert "s3://shards/wds/1.tar: shard ends within" in ran.err
        assert ran.objects[0]["removed"] == 0
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        forget_stores()
        ran = bt("index", "--index", "there", "--json")
        assert (ran.code, ran.objects[0]["unchanged"]) == (0, 12)


def test_a_shard_that_is_none_is_named(bt: Bt, server: PartsServer) -> None:
    server.files["/a.tar"] = b"<html>" * 500
    ran = bt("index", f"{server.url}/a.tar", OPEN)
    assert ran.code == 1
    assert f"{server.url}/a.tar: shard" in ran.err
    assert not Path(".bt").exists()
    ran = bt("index", f"{server.url}/none.tar", OPEN)
    assert ran.code == 1
    assert "the server says 404 Not Found" in ran.err
