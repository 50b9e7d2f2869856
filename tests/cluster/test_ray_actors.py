"""A real Ray cluster of two nodes on loopback: a worker killed by its pid, bad shards, the driver killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.conftest import PICTURES, bytes_of, rows_of, tasks_of
from object_store import object_store

from bt_cli.cluster.encode import encode_shards
from bt_cli.cluster.ray_actors import RayActors
from bt_cli.cluster.shard import ShardTask
from bt_cli.cluster.worker import WorkerSettings
from bt_cli.errors import NoEngine
from bt_cli.indexing.encoder import ModelEncoder
from bt_cli.indexing.table import encode_image_table

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'bridgetower[ray]'")


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """An empty store of objects, which this process and the cluster's find by their environment."""
    with pytest.MonkeyPatch.context() as patch, object_store(patch) as store:
        yield store


@pytest.fixture(scope="module")
def address(store: Any) -> Iterator[str]:
    """Of a cluster with two nodes of one core each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


class Killing(RayActors):
    """Kills a worker as soon as it has its first task."""

    pids: list[int]
    killed = 0

    def start(self, settings: WorkerSettings) -> int:
        size = super().start(settings)
        self.pids = ray.get([actor.check.remote() for actor in self.actors])
        self.nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return size

    def submit(self, worker: int, task: ShardTask) -> None:
        super().submit(worker, task)
        if not self.killed:
            self.killed = self.pids[worker]
            os.kill(self.killed, signal.SIGKILL)


def test_two_nodes_a_killed_worker_and_bad_shards(
    address: str, shards: list[str], settings: WorkerSettings, encoder: ModelEncoder
) -> None:
    whole = Path("s0.tar").read_bytes()
    Path("garbage.tar").write_bytes(bytes(range(256)) * 40)
    Path("member.tar").write_bytes(whole[:700])
    Path("header.tar").write_bytes(whole[: whole.index(b"1.jpg\0") + 100])
    engine = Killing(address=address)
    summary = encode_shards(tasks_of([*shards, "garbage.tar", "member.tar", "header.tar"]), settings, engine)
    assert len(engine.nodes) == summary.workers == len(set(engine.pids)) == 2
    assert engine.killed
    assert sorted(task.source for task, _ in summary.failed) == ["garbage.tar", "header.tar", "member.tar"]
    assert summary.images == 4 * PICTURES
    assert sorted(bytes_of("parts")) == sorted(f"{name}.parquet" for name in shards)
    for name in shards:
        encode_image_table([name], "alone.parquet", encoder)
        assert rows_of(f"parts/{name}.parquet") == rows_of("alone.parquet")


def test_shards_and_parts_in_a_store(address: str, store: Any, shards: list[str], settings: WorkerSettings) -> None:
    store.create_bucket(Bucket="data")
    for name in shards[:2]:
        store.put_object(Bucket="data", Key=name, Body=Path(name).read_bytes())
    tasks = tasks_of([f"s3://data/{name}" for name in shards[:2]], "s3://data/parts/")
    summary = encode_shards(tasks, settings, RayActors(address=address))
    assert (summary.failed, summary.images) == ([], 2 * PICTURES)
    keys = [entry["Key"] for entry in store.list_objects_v2(Bucket="data", Prefix="parts/")["Contents"]]
    assert keys == [f"parts/{name}.parquet" for name in shards[:2]]
    assert encode_shards(tasks, settings, RayActors(address=address)).unchanged == tasks


def test_a_worker_that_can_not_begin_says_why(address: str, settings: WorkerSettings) -> None:
    broken: dict[str, Any] = {**vars(settings), "extras": ("nothing_like_it",)}
    with pytest.raises(NoEngine, match="nothing_like_it is not installed here"):
        encode_shards(tasks_of(["s0.tar"]), WorkerSettings(**broken), RayActors(address=address))


def a_worker() -> int:
    """The process id of an actor of this module's cluster."""
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in parents:
        with contextlib.suppress(OSError):
            command, above = Path(f"/proc/{pid}/cmdline").read_bytes(), pid
            while command.startswith(b"ray::Worker") and above:
                above = parents.get(above, 0)
                if above == os.getpid():
                    return pid
    raise AssertionError("no worker runs")


def test_the_driver_is_killed_and_run_again(address: str, shards: list[str]) -> None:
    command = [sys.executable, "-m", "bt_cli", "encode", "images", *shards, "-o", "parts/", "--model", "tiny"]
    command += ["--engine", "ray", "--address", address, "--json"]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert '"encoded"' in driver.stdout.readline()
    os.kill(a_worker(), signal.SIGKILL)
    assert json.loads(driver.stdout.readline())["state"] == "encoded"  # nor does Ray say anything there
    driver.kill()
    driver.communicate()
    done = {name: content for name, content in bytes_of("parts").items() if name.endswith(".parquet")}
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    encoded = again.stdout.count('"state": "encoded"')
    # What was in flight when the driver died may have come to its end after we looked.
    assert 0 <= encoded <= 4 - len(done)
    assert again.stdout.count('"state": "unchanged"') == 4 - encoded
    assert {name: bytes_of("parts")[name] for name in done} == done
    assert sorted(bytes_of("parts")) == sorted(f"{name}.parquet" for name in shards)


def test_no_cluster_is_said_in_one_line(bt: Any, shards: list[str]) -> None:
    ran = bt(
        "encode", "images", *shards, "-o", "parts/", "--engine", "ray", "--address", "127.0.0.1:1", "--model", "tiny"
    )
    assert ran.code == 1
    assert "no Ray cluster at 127.0.0.1:1" in ran.err.splitlines()[-1]
    ran = bt("encode", "images", *shards, "-o", "parts/", "--address", "auto", "--model", "tiny")
    assert (ran.code, "add --engine ray" in ran.err) == (2, True)
