"""Images and shards in Google's storage and in data sets of the hub, through the commands and the real clients, from
servers of this machine: equal to those on disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from captioned_containers import Sample, rows_of, write_data_set, write_shard
from google_store import google_store
from hub.fake_hub import FakeHub, go_online
from object_store import forget_stores

from bt_cli.sources import tar_shard
from bt_cli.store.index_folder import IndexFolder

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
NAMES = [f"scene-{number:04}.jpg" for number in range(1, 13)]
SCENES = Path(__file__).parents[2] / "sample_data" / "images"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Path:
    """A folder of a tar file, a Parquet file, a data set and single images, three images each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    monkeypatch.setattr(tar_shard, "_asked", {})
    samples: dict[str, Sample] = {name[:-4]: ((SCENES / name).read_bytes(), [name]) for name in NAMES}
    parts = [dict(list(samples.items())[first : first + 3]) for first in range(0, 12, 3)]
    folder = tmp_path / "photos"
    folder.mkdir()
    write_shard(folder / "a.tar", parts[0], ".jpg")
    pq.write_table(rows_of(parts[1]), folder / "b.parquet", row_group_size=2)
    write_data_set(folder / "set", parts[2])
    for name, (content, _) in parts[3].items():
        (folder / f"{name} #1.jpg").write_bytes(content)
    return folder


def rows(folder: str, home: str) -> list[tuple[str, ...]]:
    with IndexFolder.open(folder) as index:
        table = index.table(["path", "size", "content_hash", "embedding"]).to_pylist()
    return sorted((str(row["path"]).removeprefix(home), *map(str, list(row.values())[1:])) for row in table)


def is_as_on_disk(bt: Bt, url: str) -> None:
    """Index, update, rerank and evaluate what is at an address, and find what the folder gives."""
    assert bt("index", "photos", "--index", "disk").code == 0
    ran = bt("index", url, "--json")
    assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
    assert rows(".bt", f"{url}/") == rows("disk", "photos/")
    assert [line for line in ran.err.splitlines() if "bucket" in line or "Warning" in line] == []
    tar_shard._asked.clear()
    assert bt("index", "--json").objects[0]["unchanged"] == 12
    hits = bt("search", "a red car", "--rerank", "--json").objects
    best = bt("search", "a red car", "--rerank", "--json", "--index", "disk").objects
    assert [hit["itm_logit"] for hit in hits] == [hit["itm_logit"] for hit in best]
    for name in ("a.tar", "b.parquet", "set/data-00000-of-00001.arrow"):
        there, here = (bt("eval", f"{place}/{name}", "--json").objects[0] for place in (url, "photos"))
        assert (there["images"], there["itc"]) == (3, here["itc"])
    single = bt("score", f"{url}/scene-0010 #1.jpg", "two dogs", "--json").objects[0]
    assert single["itm_logit"] == bt("score", "photos/scene-0010 #1.jpg", "two dogs", "--json").objects[0]["itm_logit"]


def transferred(asked: list[tuple[str, str]], size: int) -> list[int]:
    """How often each byte of a file was asked for."""
    times = [0] * size
    for _, part in asked:
        first, last = part.removeprefix("bytes=").split("-")
        for place in range(int(first), min(int(last) + 1, size)):
            times[place] += 1
    return times


def test_google_storage(bt: Bt, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with google_store(monkeypatch) as store:
        files = [file for file in photos.rglob("*") if file.is_file()]
        store.objects = {f"bucket/p/{file.relative_to(photos)}": file.read_bytes() for file in files}
        is_as_on_disk(bt, "gs://bucket/p")
        for name in ("a.tar", "b.parquet"):
            content = store.objects[f"bucket/p/{name}"]
            asked = [each for each in store.asked if name in each[0] and each[1]]
            assert set(transferred(asked, len(content))) == {1}
        store.objects["bucket/p/scene-0010 #1.jpg"] = (SCENES / "scene-0013.jpg").read_bytes()
        del store.objects["bucket/p/scene-0011 #1.jpg"]
        tar_shard._asked.clear()
        record = bt("index", "--json").objects[0]
        assert (record["updated"], record["removed"], record["unchanged"]) == (1, 1, 10)
        assert "gs://bucket/none: no such file or folder" in bt("index", "gs://bucket/none", "--index", "x").err


def test_data_sets_of_the_hub(bt: Bt, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Path("repository")
    shutil.copytree(photos, repository)
    with FakeHub({"datasets/some/photos": repository}) as hub:
        go_online(monkeypatch, hub.url)
        forget_stores()
        try:
            is_as_on_disk(bt, "hf://datasets/some/photos")
            for name in ("a.tar", "b.parquet"):
                asked = [(each.path, each.range) for each in hub.asked("GET", f"/{name}") if each.range]
                assert set(transferred(asked, (repository / name).stat().st_size)) == {1}
            (repository / "scene-0010 #1.jpg").write_bytes((SCENES / "scene-0013.jpg").read_bytes())
            (repository / "scene-0011 #1.jpg").unlink()
            tar_shard._asked.clear()
            record = bt("index", "--json").objects[0]
            assert (record["updated"], record["removed"], record["unchanged"]) == (1, 1, 10)
            at_revision = bt("index", "hf://datasets/some/photos@main/a.tar", "--index", "x", "--json")
            assert at_revision.objects[0]["added"] == 3
            missing = bt("index", "hf://datasets/some/other", "--index", "y")
            assert "hf://datasets/some/other: no such file or folder" in missing.err
        finally:
            forget_stores()


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("gs://bucket/p", "gcsfs.core", "gcsfs"),
        ("s3://bucket/p", "s3fs", "s3fs"),
        ("hf://datasets/some/photos", "fsspec", "huggingface_hub"),
    ],
)
def test_a_client_that_is_not_installed_is_named(
    bt: Bt, monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    clients = pytest.importorskip("fsspec.registry")._registry
    forget_stores()
    for protocol in ("gs", "s3", "hf"):  # a client that another test has loaded
        monkeypatch.delitem(clients, protocol, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    ran = bt("index", url)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert f"{url.partition(':')[0]}:// needs {package}: pip install 'bridgetower[cloud]'" in ran.err


def test_a_data_set_by_its_name(bt: Bt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import datasets.config

    samples: dict[str, Sample] = {name[:-4]: ((SCENES / name).read_bytes(), [name]) for name in NAMES}
    (tmp_path / "set" / "data").mkdir(parents=True)
    for number, part in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        rows_there = rows_of(dict(list(samples.items())[number * 4 : number * 4 + 4]))
        pq.write_table(rows_there, tmp_path / "set" / "data" / f"{part}.parquet")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.csv").write_text("a,b\n1,2\n")
    with FakeHub({"datasets/some/photos": tmp_path / "set", "datasets/some/plain": tmp_path / "plain"}) as hub:
        go_online(monkeypatch, hub.url)
        for name, value in (("HF_HUB_OFFLINE", False), ("HF_ENDPOINT", hub.url)):
            monkeypatch.setattr(datasets.config, name, value)
        monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        forget_stores()
        try:
            ran = bt("index", "hf-dataset:some/photos", "--json")
            assert (ran.code, ran.objects[0]["added"]) == (0, 12), ran.err
            assert [line for line in ran.err.splitlines() if "card" in line.lower()] == []
            assert bt("index", "set", "--index", "disk").code == 0
            there, here = rows(".bt", "hf://datasets/some/photos/"), rows("disk", "set/")
            assert [row[:3] for row in there] == [
                row[:3] for row in here
            ]  # encoded in another order: the train split first
            tar_shard._asked.clear()
            assert bt("index", "hf-dataset:some/photos", "--json").objects[0]["unchanged"] == 12
            (tmp_path / "set" / "README.md").write_text("# Another commit, the same data")
            tar_shard._asked.clear()
            assert bt("index", "hf-dataset:some/photos", "--json").objects[0]["unchanged"] == 12
            assert bt("index", "--json").objects[0]["unchanged"] == 12
            for split, count in (("test", 4), ("train+test", 12), ("train", 8)):
                ran = bt("index", f"hf-dataset:some/photos@main:{split}", "--index", split, "--json")
                assert ran.objects[0]["added"] == count
            found = bt("eval", "hf-dataset:some/photos:test", "--json").objects[0]
            assert (found["images"], found["captions"]) == (4, 4)
            for given, reason in (
                ("hf-dataset:some/photos:val", "no split 'val'; it has train, test"),
                ("hf-dataset:some/none", "doesn't exist on the Hub"),
                ("hf-dataset:photos", "a data set's name is written hf-dataset:OWNER/NAME[/CONFIG][@REVISION][:SPLIT]"),
                ("hf-dataset:some/plain", "its files (.csv) are no Parquet, Arrow or tar files"),
                ("hf-dataset:some/photos/other", "other"),
                ("hf-dataset:some/photos@none", "none"),
            ):
                ran = bt("index", given, "--index", "refused")
                assert (ran.code in (1, 2), len(ran.err.splitlines())) == (True, 1), ran.err
                assert given in ran.err
                assert reason in ran.err
            hub.stop()
            ran = bt("index", "hf-dataset:some/unseen", "--index", "refused")
            assert (ran.code, len(ran.err.splitlines())) == (1, 1), ran.err
            monkeypatch.setitem(sys.modules, "datasets", None)
            ran = bt("index", "hf-dataset:some/photos", "--index", "refused")
            assert (ran.code, len(ran.err.splitlines())) == (2, 1)
            assert "hf-dataset: needs datasets: pip install 'bridgetower[hub]'" in ran.err
        finally:
            forget_stores()
