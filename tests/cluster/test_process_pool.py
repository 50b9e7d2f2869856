"""Real worker processes: equal parts, a worker killed, the driver killed, nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster.conftest import PICTURES, bytes_of, rows_of, tasks_of

from bt_cli.cluster.encode import encode_shards
from bt_cli.cluster.process_pool import ProcessPool
from bt_cli.cluster.shard import ShardTask
from bt_cli.cluster.worker import WorkerSettings
from bt_cli.errors import NotFound
from bt_cli.indexing.encoder import ModelEncoder
from bt_cli.indexing.table import encode_image_table


class Killing(ProcessPool):
    """Kills a worker as soon as it has its first task."""

    killed = 0

    def submit(self, worker: int, task: ShardTask) -> None:
        super().submit(worker, task)
        if not self.killed:
            self.killed = self.processes[worker].process.pid or 0
            os.kill(self.killed, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_killed_workers_shard_is_done_again(
    shards: list[str], settings: WorkerSettings, encoder: ModelEncoder
) -> None:
    engine = Killing(2)
    summary = encode_shards(tasks_of(shards), settings, engine)
    assert engine.killed
    assert (summary.again, summary.failed, summary.images, summary.workers) == (1, [], 4 * PICTURES, 2)
    for name in shards:
        encode_image_table([name], "alone.parquet", encoder)
        assert rows_of(f"parts/{name}.parquet") == rows_of("alone.parquet")
    assert engine.processes == []


def test_a_worker_that_can_not_begin_says_why(settings: WorkerSettings) -> None:
    broken = WorkerSettings(**{**vars(settings), "folder": "/nowhere/at/all"})
    with pytest.raises(NotFound, match="/nowhere/at/all: not here"):
        encode_shards(tasks_of(["s0.tar"]), broken, ProcessPool(1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_leaves_whole_parts_and_no_process(shards: list[str], how: signal.Signals) -> None:
    for number in range(4, 40):  # so many that it is not done when it is stopped
        shards.append(shutil.copy("s1.tar", f"s{number}.tar"))
    command = [sys.executable, "-m", "bt_cli", "encode", "images", *shards, "-o", "parts/", "--model", "tiny"]
    driver = subprocess.Popen(
        [*command, "--processes", "1", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert '"encoded"' in driver.stdout.readline()
    [worker] = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdecimal() and f"\nPPid:\t{driver.pid}\n" in status_of(name) and "spawn_main" in command_of(name)
    ]
    driver.send_signal(how)
    _, err = driver.communicate(timeout=60)
    until = time.monotonic() + 20
    while is_alive(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(worker)
    if how == signal.SIGINT:
        assert driver.returncode == 130
        assert "the parts that are done are whole" in err
        assert "Traceback" not in err
        assert not list(Path("parts").glob(".*"))
    whole = {name: content for name, content in bytes_of("parts").items() if name.endswith(".parquet")}
    for name in whole:
        assert len(rows_of(f"parts/{name}")["path"]) == PICTURES
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(shards) - len(whole)} shard" in again.stderr
    assert {name: bytes_of("parts")[name] for name in whole} == whole
    assert sorted(bytes_of("parts")) == sorted(f"{name}.parquet" for name in shards)


def status_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
