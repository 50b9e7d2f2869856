"""Shards read from a store of objects and parts written there, by processes, against a server of the S3 protocol."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import pytest
from cluster.conftest import PICTURES, rows_of
from object_store import PartsServer, forget_stores, object_store, parts_server

from bt_cli.store.index_folder import IndexFolder

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]


@pytest.fixture
def store(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with the shards, the last of them as a folder of pictures."""
    monkeypatch.setenv("BT_MODEL", "tiny")
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="data")
        for name in shards:
            paths = sorted(Path(name).iterdir()) if Path(name).is_dir() else [Path(name)]
            for path in paths:
                store.put_object(Bucket="data", Key=f"wds/{path}", Body=path.read_bytes())
        yield store


def keys(store: Any, prefix: str) -> list[str]:
    return [entry["Key"] for entry in store.list_objects_v2(Bucket="data", Prefix=prefix).get("Contents", [])]


def stored_rows(store: Any, key: str) -> list[dict[str, Any]]:
    content = store.get_object(Bucket="data", Key=key)["Body"].read()
    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


def states(ran: Ran) -> dict[str, str]:
    return {record["shard"].rpartition("/")[2]: record["state"] for record in ran.objects}


def test_parts_of_a_store_in_a_store(bt: Bt, store: Any, shards: list[str]) -> None:
    command = ["encode", "images", "s3://data/wds/{s0,s1}.tar", "s3://data/wds/s2.*", "s3://data/wds/s3"]
    command += ["-o", "s3://data/parts/", "--processes", "1", "--json"]
    ran = bt(*command)
    assert ran.code == 0, ran.err
    assert states(ran) == dict.fromkeys(shards, "encoded")
    assert sorted(record["part"] for record in ran.objects) == [f"s3://data/parts/{name}.parquet" for name in shards]
    assert keys(store, "parts/") == [f"parts/{name}.parquet" for name in shards]
    assert bt("encode", "images", *shards, "-o", "here/").code == 0
    for name in shards:
        there, here = stored_rows(store, f"parts/{name}.parquet"), rows_of(f"here/{name}.parquet")
        assert [row["path"] for row in there] == [f"s3://data/wds/{path}" for path in here["path"]]
        for column in ("size", "content_hash", "width", "height", "embedding"):
            assert [row[column] for row in there] == here[column]
    assert bt("index", "--tables", "s3://data/parts/", "--index", "below/index").code == 0
    with IndexFolder.open("below/index") as index:
        # Addresses stay what they are, wherever relative paths start from.
        paths = [row["path"] for name in shards for row in stored_rows(store, f"parts/{name}.parquet")]
        assert index.table(["path"]).column("path").to_pylist() == paths
    before = {key: store.head_object(Bucket="data", Key=key)["ETag"] for key in keys(store, "parts/")}
    store.put_object(Bucket="data", Key="wds/s3/2.jpg", Body=b"\xff\xd8\xff no picture")
    store.put_object(Bucket="data", Key="wds/s1.tar", Body=Path("s1.tar").read_bytes()[:-3000])
    store.delete_object(Bucket="data", Key="parts/s0.tar.parquet")
    ran = bt(*command)
    assert (ran.code, states(ran)) == (
        1,
        {"s0.tar": "encoded", "s1.tar": "failed", "s2.tar": "unchanged", "s3": "encoded"},
    )
    assert "s3://data/wds/s1.tar: shard ends within" in ran.err.splitlines()[-1]
    assert keys(store, "parts/") == sorted([*before, "parts/s3.failures.jsonl"])
    # Of a shard that is damaged now the part stays that was made when it was whole.
    now = {key: store.head_object(Bucket="data", Key=key)["ETag"] for key in before}
    assert {key for key in before if now[key] != before[key]} == {"parts/s3.parquet"}
    [line] = store.get_object(Bucket="data", Key="parts/s3.failures.jsonl")["Body"].read().splitlines()
    assert json.loads(line)["path"] == "s3://data/wds/s3/2.jpg"
    assert len(stored_rows(store, "parts/s3.parquet")) == PICTURES - 1
    store.delete_object(Bucket="data", Key="wds/s3/2.jpg")
    store.put_object(Bucket="data", Key="wds/s1.tar", Body=Path("s1.tar").read_bytes())
    assert bt(*command).code == 0
    assert keys(store, "parts/") == sorted(before)


def test_a_store_that_can_not_be_had_is_said_before_anything_is_encoded(
    bt: Bt, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sources, says in (
        (["s3://data/wds/none.tar"], "s3://data/wds/none.tar: no such shard"),
        (["s3://data/none"], "s3://data/none: no such shard"),
        (["s3://data/none/*.tar"], "s3://data/none/*.tar: no such file or folder"),
        (["s3://data/wds/s0.tar", "s0.tar"], "both would be parts/s0.tar.parquet"),
        (["https://example.org/a.jpg"], "no shard: a tar file"),
    ):
        ran = bt("encode", "images", *sources, "-o", "parts/")
        assert (ran.code in (1, 2), says in ran.err.splitlines()[-1]) == (True, True), ran.err
    for name, says in (("wds/s3", "no Parquet table there"), ("none", "no such file or folder")):
        ran = bt("index", "--tables", f"s3://data/{name}", "--index", "index")
        assert (ran.code, ran.err) == (1, f"bt: s3://data/{name}: {says}{ran.err.partition(says)[2]}")
        assert not Path("index").exists()
    ran = bt("index", "--tables", "s3://data/wds/s0.tar", "--index", "index")
    assert (ran.code, "s3/data/wds/s0.tar: no table that can be read" in ran.err) == (1, True)
    ran = bt("encode", "images", "s0.tar", "-o", "s3://data/x.parquet")
    assert (ran.code, "name a folder there: s3://data/x.parquet/" in ran.err) == (2, True)
    ran = bt("encode", "images", "s0.tar", "-o", "s3://no-such-bucket/parts/", "--processes", "1")
    assert ran.code == 1
    assert "s3://no-such-bucket/parts/s0.tar.parquet: can't be written" in ran.err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_stores()
    ran = bt("encode", "images", "s0.tar", "-o", "s3://data/parts/", "--processes", "1")
    assert (ran.code, "s3://data/parts/s0.tar.parquet: " in ran.err) == (1, True)


def test_a_shard_of_the_web_is_fetched_once(bt: Bt, shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_MODEL", "tiny")
    with parts_server() as server:
        server.files["/s0.tar"] = Path("s0.tar").read_bytes()
        command = ["encode", "images", f"{server.url}/s0.tar", "-o", "parts/", "--processes", "1"]
        assert "not a public address" in bt(*command).err
        ran = bt(*command, "--allow-private-urls")
        assert ran.code == 0, ran.err
        assert len(rows_of("parts/s0.tar.parquet")["path"]) == PICTURES
        assert once(server, "/s0.tar") == 1
        assert "1 unchanged" in bt(*command, "--allow-private-urls").err


def once(server: PartsServer, path: str) -> int:
    """How many requests asked for more than a file's size."""
    return sum(asked == path and part != "bytes=0-0" for asked, part in server.asked)
