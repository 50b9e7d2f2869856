"""`--keep` at the shell: index, encode, search, show, info, export, shard by shard."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from kept.kept_sources import NAMES, WANTED, N, data_set, folder, kept, parquet, tar
from object_store import object_store, parts_server

from bt_cli.store.manifest import Manifest

Bt = Callable[..., Any]
ALL = ",".join(NAMES)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(number: int) -> dict[str, str | None]:
    return dict(zip(NAMES, WANTED[number], strict=True))


def test_search_show_and_info_tell_them(bt: Bt) -> None:
    parquet()
    ran = bt("index", "p.parquet", "--keep", "url,caption", "--keep", "pixels, tags", "--model", "tiny")
    assert ran.code == 0, ran.err
    assert kept() == WANTED
    hits = bt("search", "red", "-k", "3", "--json").objects
    assert [hit["kept"] for hit in hits] == [said(int(hit["path"][-1])) for hit in hits]
    (asked,) = [json.loads(line) for line in bt("search", "red", "-k", "1", "--json").out.splitlines()]
    assert asked["kept"] == hits[0]["kept"]
    record = bt("show", "3", "--json").objects[0]
    assert (record["kept"], record["captions"]) == (said(3), [])
    shown = bt("show", "2").out
    assert "https://example.org/002.jpg" in shown
    assert "Bild 2" in shown
    assert bt("info", "--json").objects[0]["keep"] == NAMES
    assert "columns kept" in bt("info").out
    assert bt("index", "--keep", "").code == 0
    assert Manifest.read(".bt").keep == []
    assert bt("show", "2", "--json").objects[0]["kept"] == {}
    assert "kept" not in bt("search", "red", "-k", "1", "--json").objects[0]


def test_several_indexes_and_many_queries(bt: Bt) -> None:
    parquet()
    folder()
    bt("index", "p.parquet", "--keep", "url", "--index", "a", "--model", "tiny")
    bt("index", "folder", "--keep", "pixels", "--index", "b", "--model", "tiny")
    hits = bt("search", "red", "-k", "12", "--json", "--index", "a", "--index", "b").objects
    assert sorted(str(hit["kept"]) for hit in hits) == sorted(
        [str({"url": each[0]}) for each in WANTED] + [str({"pixels": each[2]}) for each in WANTED]
    )
    Path("q.txt").write_text("red\nblue\n", "utf-8")
    records = bt("search", "--queries", "q.txt", "-k", "2", "--json", "--index", "a").objects
    assert all(set(hit["kept"]) == {"url"} for hit in records)
    assert len(records) == 4


def test_refusals_are_one_line(bt: Bt) -> None:
    parquet()
    for arguments, says in (
        (
            ["index", "p.parquet", "--keep", "ulr"],
            "bt: --keep ulr: no source of these images has a column of that name; ",
        ),
        (
            ["index", "p.parquet", "--keep", "url,size"],
            "bt: --keep size: every table has a column of its own called size",
        ),
        (["index", "p.parquet", "--keep", "image"], "bt: --keep image: a column of bytes in "),
        (["encode", "images", "p.parquet", "-o", "t.parquet", "--keep", "ulr"], "bt: --keep ulr: no source"),
        (["encode", "images", "p.parquet", "-o", "parts/", "--keep", "ulr"], "bt: --keep ulr: no source"),
        (["index", "p.parquet", "--engine", "processes", "--keep", "ulr"], "bt: --keep ulr: no source"),
        (["index", "--tables", "t.parquet", "--keep", "url"], "bt: --tables takes what is encoded already, so --keep"),
    ):
        ran = bt(*arguments, *(["--model", "tiny"] if "--tables" not in arguments else []))
        assert ran.code == 2, ran.err
        assert len(ran.err.splitlines()) == 1
        assert ran.err.startswith(says)
    assert not os.path.exists(".bt/manifest.json")


def rows(path: str) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(path).to_pylist()


def test_shard_by_shard_a_part_gets_other_columns_without_encoding(bt: Bt) -> None:
    parquet()
    tar(more="x")
    names = ["encode", "images", "p.parquet", "s.tar", "-o", "parts/", "--processes", "1", "--model", "tiny", "--json"]
    assert [each["images"] for each in bt(*names, "--keep", "url").objects] == [N, N]
    before = rows("parts/s.tar.parquet")
    assert [each["url"] for each in before] == [each[0] for each in WANTED]
    assert [each["state"] for each in bt(*names, "--keep", "url").objects] == ["unchanged"] * 2
    ran = bt(*names, "--keep", "pixels,url,more")
    assert [(each["state"], each["images"]) for each in ran.objects] == [("encoded", 0)] * 2
    assert "--keep more: the sources of 6 of 6 images have no such column" in ran.err
    after = rows("parts/s.tar.parquet")
    assert [(each["pixels"], each["url"], each["more"]) for each in after] == [
        (pixels, url, "x") for url, _, pixels, _ in WANTED
    ]
    assert [each["embedding"] for each in after] == [each["embedding"] for each in before]
    assert {each["more"] for each in rows("parts/p.parquet.parquet")} == {None}
    assert bt("index", "--tables", "parts").code == 0
    assert Manifest.read(".bt").keep == ["pixels", "url", "more"]
    assert bt(*names).code == 0
    assert "url" not in pyarrow.parquet.read_schema("parts/s.tar.parquet").names


def stored(store: Any, name: str) -> list[dict[str, Any]]:
    content = store.get_object(Bucket="data", Key=f"parts/{name}.parquet")["Body"].read()
    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


def test_parts_and_shards_in_a_store_have_the_columns_of_those_in_a_folder(
    bt: Bt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar(more="x")
    parquet()
    own = ["encode", "images", "s.tar", "p.parquet", "-o", "parts/", "--processes", "1", "--model", "tiny", "--json"]
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="data")
        for name in ("s.tar", "p.parquet"):
            store.put_object(Bucket="data", Key=f"wds/{name}", Body=Path(name).read_bytes())
        there = [word.replace("parts/", "s3://data/parts/") for word in own]
        there = [f"s3://data/wds/{word}" if word in ("s.tar", "p.parquet") else word for word in there]
        for keep, images in (("url", N), ("pixels,url,more", 0)):
            ran = bt(*there, "--keep", keep)
            assert [(each["state"], each["images"]) for each in ran.objects] == [("encoded", images)] * 2, ran.err
            assert bt(*own, "--keep", keep).code == 0
            for name in ("s.tar", "p.parquet"):
                found, expected = stored(store, name), rows(f"parts/{name}.parquet")
                columns = [*keep.split(","), "embedding", "content_hash", "width", "height"]
                assert [[row[column] for column in columns] for row in found] == [
                    [row[column] for column in columns] for row in expected
                ]
                assert [row["path"] for row in found] == [f"s3://data/wds/{row['path']}" for row in expected]
            assert [each["state"] for each in bt(*there, "--keep", keep).objects] == ["unchanged"] * 2


def test_shards_on_the_web_have_the_columns_of_those_in_a_folder(bt: Bt) -> None:
    tar(more="x")
    parquet()
    options = ["--keep", "url,pixels,more", "--model", "tiny"]
    with parts_server() as server:
        shards = []
        for name in ("s.tar", "p.parquet"):
            server.files[f"/{name}"] = Path(name).read_bytes()
            shards.append(f"{server.url}/{name}")
        assert bt("encode", "images", *shards, "-o", "web.parquet", "--allow-private-urls", *options).code == 0
        assert bt("encode", "images", "s.tar", "p.parquet", "-o", "own.parquet", *options).code == 0
        web, own = (
            {row["path"].removeprefix(f"{server.url}/"): row for row in rows(name)}
            for name in ("web.parquet", "own.parquet")
        )
        assert web.keys() == own.keys()
        for path, row in web.items():
            for column in ("url", "pixels", "more", "embedding", "content_hash"):
                assert row[column] == own[path][column], (path, column)
        ran = bt("encode", "images", shards[0], "-o", "parts/", "--processes", "1", "--allow-private-urls", *options)
        assert ran.code == 0, ran.err
        assert [row["url"] for row in rows("parts/s.tar.parquet")] == [
            own[f"s.tar/{name}"]["url"] for name in members()
        ]
        for index, sources in (("a", shards), ("b", ["s.tar", "p.parquet"])):
            made = bt("index", *sources, "--keep", "url", "--index", index, "--model", "tiny", "--allow-private-urls")
            assert made.code == 0, made.err
        kept = [
            [hit["kept"] for hit in bt("search", "a dog", "--index", index, "--json").objects] for index in ("a", "b")
        ]
        assert kept[0] == kept[1]


def members() -> list[str]:
    with tarfile.open("s.tar") as archive:
        return [name for name in archive.getnames() if name.endswith((".jpg", ".png"))]


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_engines_hand_it_on(bt: Bt, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    parquet()
    tar()
    ran = bt("index", "p.parquet", "s.tar", "--engine", engine, "--processes", "1", "--model", "tiny", "--keep", ALL)
    assert ran.code == 0, ran.err
    assert kept() == [each for each in WANTED for _ in range(2)]
    os.utime("s.tar", (1, 1))
    ran = bt("index", "p.parquet", "s.tar", "--engine", engine, "--processes", "1")
    assert ran.code == 0, ran.err
    assert (Manifest.read(".bt").keep, kept()) == (NAMES, [each for each in WANTED for _ in range(2)])


def test_exports_carry_them(bt: Bt) -> None:
    data_set()
    assert bt("index", "set", "--keep", ALL, "--model", "tiny").code == 0
    assert bt("export", "--to", "webdataset", "-o", "wds").code == 0
    with tarfile.open("wds/00000.tar") as archive:
        found = [json.loads(archive.extractfile(name).read()) for name in archive.getnames() if name.endswith(".json")]
    assert [tuple(each[name] for name in NAMES) for each in found] == WANTED
    assert bt("index", "wds", "--index", "again", "--keep", ALL, "--model", "tiny").code == 0
    assert kept("again") == WANTED
    assert bt("export", "--to", "npy", "-o", "x.npy").code == 0
    lines = [json.loads(line) for line in Path("x.rows.jsonl").read_text("utf-8").splitlines()]
    assert [tuple(each[name] for name in NAMES) for each in lines] == WANTED


def test_lancedb_has_them(bt: Bt) -> None:
    lancedb = pytest.importorskip("lancedb")
    parquet()
    bt("index", "p.parquet", "--keep", ALL, "--model", "tiny")
    ran = bt("export", "--to", "lancedb", "-o", "lance")
    assert ran.code == 0, ran.err
    table = lancedb.connect("lance").open_table("images").to_arrow().sort_by("id").to_pylist()
    assert [tuple(each[name] for name in NAMES) for each in table] == WANTED


def test_qdrant_has_them(bt: Bt) -> None:
    client = pytest.importorskip("qdrant_client")
    parquet()
    bt("index", "p.parquet", "--keep", ALL, "--model", "tiny")
    ran = bt("export", "--to", "qdrant", "-o", "points")
    assert ran.code == 0, ran.err
    opened = client.QdrantClient(path="points")
    points = sorted(opened.scroll("images", limit=100)[0], key=lambda point: point.id)
    opened.close()
    assert [tuple(point.payload[name] for name in NAMES) for point in points] == WANTED
