"""Tar shards, Parquet files and lists on the web and in a store, through the commands: equal to the folder, and kept
while they are away."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captioned_containers import write_data_set
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


def parquet(names: list[str]) -> bytes:
    """Images with a caption each, in groups of four rows."""
    images = [{"bytes": (SCENES / name).read_bytes(), "path": "x.jpg"} for name in names]
    written = io.BytesIO()
    pq.write_table(pa.table({"image": images, "caption": names}), written, row_group_size=4)
    return written.getvalue()


def plain_table() -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"label": [1, 2]}), written)
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
    assert (record["removed"], record["encoded"], record["updated"], record["unchanged"]) == (2, 0, 0, 10)
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


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".parquet"])
def test_a_first_index_transfers_a_container_once(bt: Bt, server: PartsServer, suffix: str) -> None:
    content = parquet(NAMES) if suffix == ".parquet" else tar(NAMES, suffix == ".tar.gz")
    server.files[f"/once{suffix}"] = content
    assert bt("index", f"{server.url}/once{suffix}", OPEN).code == 0
    sizes = [0] * len(content)
    for _, part in server.asked:
        first, last = part.removeprefix("bytes=").split("-")
        for place in range(int(first), min(int(last) + 1, len(content))):
            sizes[place] += 1
    assert max(sizes[1:]) == 1  # the first byte alone is asked for the file's size
    asked = len(server.asked)
    assert bt("search", "a red car", "--rerank", "--json", OPEN).code == 0
    assert server.asked[asked:] == []


def test_a_parquet_file_on_the_web(bt: Bt, server: PartsServer) -> None:
    server.files["/a.parquet"] = parquet(NAMES)
    url = f"{server.url}/a.parquet"
    assert "not a public address" in bt("index", url).err
    assert bt("index", "photos", "--index", "disk").code == 0
    ran = bt("index", url, OPEN, "--json")
    assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
    with IndexFolder.open(".bt") as index:
        rows = index.table(["path", "content_hash", "embedding"]).to_pylist()
    assert [row["path"] for row in rows] == [f"{url}/{number:09d}" for number in range(12)]
    there = contents("disk")
    assert [(row["content_hash"], str(row["embedding"])) for row in rows] == [
        (there[name][1], there[name][4]) for name in NAMES
    ]
    server.asked.clear()
    assert bt("index", OPEN, "--json").objects[0]["unchanged"] == 12
    assert {part for _, part in server.asked} == {"bytes=0-0"}
    hits = bt("search", "a red car", "--rerank", "--json", OPEN).objects
    best = bt("search", "a red car", "--rerank", "--json", "--index", "disk").objects
    assert [hit["itm_logit"] for hit in hits] == [hit["itm_logit"] for hit in best]
    assert bt("score", f"{url}/000000003", "two dogs", OPEN, "--json").code == 0
    server.files["/a.parquet"] = parquet(NAMES[:5])
    ran = bt("index", OPEN, "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["updated"] + ran.objects[0]["unchanged"]) == (7, 5)
    server.files["/a.parquet"] = parquet(NAMES[:5])[:-20]
    ran = bt("index", OPEN, "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["unchanged"]) == (0, 5)
    assert f"{url}: shard is no whole Parquet file" in ran.err
    del server.files["/a.parquet"]
    ran = bt("index", OPEN, "--json")
    assert (ran.code, ran.objects[0]["unchanged"]) == (0, 5)
    assert f"skipped {url}: the server says 404" in ran.err


def test_lists_on_the_web(bt: Bt, server: PartsServer) -> None:
    server.files |= {f"/{name}": (SCENES / name).read_bytes() for name in NAMES}
    urls = [f"{server.url}/{name}" for name in NAMES]
    table = io.BytesIO()
    pq.write_table(pa.table({"url": urls[6:], "text": ["x"] * 6}), table)
    server.files |= {
        "/urls.txt": "\n".join(["# two", *urls[:6], "no address"]).encode(),
        "/t.parquet": table.getvalue(),
    }
    assert bt("index", "photos", "--index", "disk").code == 0
    ran = bt("index", f"{server.url}/urls.txt", f"{server.url}/t.parquet", OPEN, "--json")
    assert (ran.code, ran.objects[0]["added"], ran.objects[0]["skipped"]) == (0, 12, 1), ran.err
    assert f"skipped {server.url}/urls.txt:8: no address: no address" in ran.err
    assert contents(".bt").keys() == contents("disk").keys()
    server.files["/urls.txt"] = "\n".join(urls[:4]).encode()
    ran = bt("index", OPEN, "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["unchanged"]) == (2, 10)
    list_there = server.files.pop("/urls.txt")
    ran = bt("index", OPEN, "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["unchanged"]) == (0, 10)
    assert f"skipped {server.url}/urls.txt: the server says 404" in ran.err
    server.files["/urls.txt"] = list_there
    ran = bt("index", f"{server.url}/urls.txt", "--forget", f"{server.url}/t.parquet", OPEN, "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["unchanged"]) == (6, 4)


def test_parquet_files_in_a_store(bt: Bt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bt("index", "photos", "--index", "disk").code == 0
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="parts")
        for number, names in enumerate((NAMES[:5], NAMES[5:])):
            store.put_object(Bucket="parts", Key=f"p/{number}.parquet", Body=parquet(names))
        store.put_object(Bucket="parts", Key="p/other.parquet", Body=plain_table())
        for given in (["s3://parts/p"], ["s3://parts/p/0.parquet", "s3://parts/p/1.parquet"]):
            ran = bt("index", *given, "--index", "there", "--rebuild", "--json")
            assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
            with IndexFolder.open("there") as index:
                hashes = index.table(["content_hash"]).column(0).to_pylist()
            with IndexFolder.open("disk") as index:
                assert hashes == index.table(["content_hash"]).column(0).to_pylist()
        found = bt("eval", "s3://parts/p/0.parquet", "--json").objects[0]
        assert (found["images"], found["captions"], found["skipped"]) == (5, 5, 0)


def arrow(names: list[str], file: bool = False) -> bytes:
    """Images with a caption each, in batches of four rows."""
    images = [{"bytes": (SCENES / name).read_bytes(), "path": "x.jpg"} for name in names]
    table = pa.table({"image": images, "caption": names})
    written = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(written, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return written.getvalue()


def rows_in_order(folder: str) -> list[tuple[object, ...]]:
    """(image's name in its container's folder, hash, embedding) of each row."""
    with IndexFolder.open(folder) as index:
        rows = index.table(["path", "content_hash", "width", "embedding"]).to_pylist()
    return [("/".join(row["path"].split("/")[-2:]), row["content_hash"], str(row["embedding"])) for row in rows]


@pytest.mark.parametrize("file", [False, True])
def test_an_arrow_file_on_the_web(bt: Bt, server: PartsServer, file: bool) -> None:
    content = arrow(NAMES, file)
    Path("a.arrow").write_bytes(content)
    server.files["/a.arrow"] = content
    url = f"{server.url}/a.arrow"
    assert "not a public address; --allow-private-urls" in bt("index", url).err
    assert bt("index", "a.arrow", "--index", "disk").code == 0
    server.asked.clear()
    ran = bt("index", url, OPEN, "--json")
    assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
    assert rows_in_order(".bt") == rows_in_order("disk")
    times = [0] * len(content)
    for _, part in server.asked:
        first, last = part.removeprefix("bytes=").split("-")
        for place in range(int(first), min(int(last) + 1, len(content))):
            times[place] += 1
    assert set(times[1:]) == {1}  # the first byte alone is asked for the file's size
    server.asked.clear()
    assert bt("index", OPEN, "--json").objects[0]["unchanged"] == 12
    assert {part for _, part in server.asked} == {"bytes=0-0"}
    hits = bt("search", "a red car", "--rerank", "--json", OPEN).objects
    best = bt("search", "a red car", "--rerank", "--json", "--index", "disk").objects
    assert [hit["itm_logit"] for hit in hits] == [hit["itm_logit"] for hit in best]
    measured = [bt("eval", given, OPEN, "--json").objects[0] for given in ("a.arrow", url)]
    assert measured[0]["itc"] == measured[1]["itc"]
    assert measured[1]["images"] == 12
    server.files["/a.arrow"] = content[: len(content) // 2]
    ran = bt("index", OPEN, "--json")
    assert (ran.objects[0]["removed"], f"{url}: shard " in ran.err) == (0, True)
    del server.files["/a.arrow"]
    ran = bt("index", OPEN, "--json")
    assert (ran.code, ran.objects[0]["unchanged"]) == (0, 12)
    assert f"skipped {url}: the server says 404" in ran.err


def test_a_compressed_arrow_file_on_the_web_is_refused_by_name(bt: Bt, server: PartsServer) -> None:
    images = [(SCENES / name).read_bytes() for name in NAMES]
    table = pa.table({"image": images})
    written = io.BytesIO()
    with pa.ipc.new_stream(written, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    server.files["/a.arrow"] = written.getvalue()
    ran = bt("index", f"{server.url}/a.arrow", OPEN)
    assert ran.code == 1
    assert f"{server.url}/a.arrow: shard compressed from row 0 on" in ran.err


def test_a_data_set_in_a_store(bt: Bt, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = {name: ((SCENES / name).read_bytes(), [name]) for name in NAMES}
    write_data_set(Path("set"), dict(list(samples.items())[:5]), dict(list(samples.items())[5:]))
    Path("set", "left-behind.arrow").write_bytes(arrow(NAMES[:2]))
    assert bt("index", "set", "--index", "disk").code == 0
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="sets")
        for file in Path("set").iterdir():
            store.put_object(Bucket="sets", Key=f"a/set/{file.name}", Body=file.read_bytes())
        ran = bt("index", "s3://sets/a", "--index", "there", "--json")
        assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
        assert rows_in_order("there") == rows_in_order("disk")
        assert bt("index", "--index", "there", "--json").objects[0]["unchanged"] == 12
        hits = bt("search", "a red car", "--rerank", "--json", "--index", "there").objects
        best = bt("search", "a red car", "--rerank", "--json", "--index", "disk").objects
        assert [hit["itm_logit"] for hit in hits] == [hit["itm_logit"] for hit in best]


def containers_of(kind: str, names: list[str]) -> bytes:
    return {"parquet": parquet, "arrow": arrow}.get(kind, tar)(names)


@pytest.mark.parametrize("kind", ["tar", "parquet", "arrow"])
def test_of_a_changed_container_only_what_is_new_is_encoded(bt: Bt, server: PartsServer, kind: str) -> None:
    Path("shards").mkdir()
    there, here = f"{server.url}/a.{kind}", Path("shards", f"a.{kind}")

    def holds(names: list[str]) -> None:
        here.write_bytes(containers_of(kind, names))
        server.files[f"/a.{kind}"] = here.read_bytes()
        tar_shard._asked.clear()

    def encoded() -> list[int]:
        counts = []
        for given, index in ((there, "web"), ("shards", "disk")):
            ran = bt("index", given, OPEN, "--index", index, "--json")
            assert ran.code == 0, ran.err
            counts.append(ran.objects[0]["encoded"])
        assert sorted(rows_in_order("web")) == sorted(rows_in_order("disk"))
        return counts

    others = [f"scene-{number:04}.jpg" for number in range(20, 23)]
    holds(NAMES[:6])
    assert encoded() == [6, 6]
    holds([others[0], *NAMES[:6]])  # in front of all others
    assert encoded() == [1, 1]
    holds([others[0], *NAMES[:3], others[1], *NAMES[4:6]])  # one in the middle is another
    assert encoded() == [1, 1]
    holds([*NAMES[4:6], others[0], *NAMES[:3], others[1]])  # in another order
    assert encoded() == [0, 0]
