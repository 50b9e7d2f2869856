"""Which shards are given out, how often, and what becomes of those that are bad; the engine here is this process."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cluster.conftest import PICTURES, bytes_of, rows_of, tasks_of

from bt_cli.cluster.encode import ShardsSummary, encode_shards
from bt_cli.cluster.shard import ShardTask, every_nth, shard_tasks
from bt_cli.cluster.worker import Outcome, Worker, WorkerSettings
from bt_cli.datasets.exclusion import Exclusion
from bt_cli.embeddings.embedding_table import vectors_of
from bt_cli.errors import BtError, IndexMismatch, Misuse, NotFound, UnfinishedShards
from bt_cli.indexing.encoder import ModelEncoder
from bt_cli.indexing.from_tables import index_tables
from bt_cli.indexing.table import encode_image_table
from bt_cli.store.index_folder import IndexFolder


class ThisProcess:
    """An `Engine` without another process; `losses` of a source: how often its worker dies."""

    def __init__(self, losses: dict[str, int] | None = None) -> None:
        self.losses = losses or {}
        self.given: list[str] = []
        self.closed = False

    def start(self, settings: WorkerSettings) -> int:
        self.worker = Worker(settings)
        return 1

    def submit(self, worker: int, task: ShardTask) -> None:
        self.task = task

    def wait(self) -> Sequence[tuple[int, Outcome]]:
        self.given.append(self.task.source)
        if self.losses.get(self.task.source, 0) > 0:
            self.losses[self.task.source] -= 1
            return [(0, Outcome(reason=f"{self.task.source}: worker ended"))]
        return [(0, self.worker.encode(self.task))]

    def close(self) -> None:
        self.closed = True


def run(names: list[str], settings: WorkerSettings, losses: dict[str, int] | None = None) -> ShardsSummary:
    return encode_shards(tasks_of(names), settings, ThisProcess(losses))


def test_the_parts_are_the_rows_that_one_process_writes(
    shards: list[str], settings: WorkerSettings, encoder: ModelEncoder
) -> None:
    summary = run(shards, settings)
    assert (summary.images, len(summary.encoded), summary.failed) == (4 * PICTURES, 4, [])
    for name in shards:
        encode_image_table([name], "alone.parquet", encoder)
        assert rows_of(f"parts/{name}.parquet") == rows_of("alone.parquet")
    assert sorted(bytes_of("parts")) == sorted(f"{name}.parquet" for name in shards)


def test_only_what_is_missing_or_changed_is_encoded_again(shards: list[str], settings: WorkerSettings) -> None:
    run(shards, settings)
    before = bytes_of("parts")
    engine = ThisProcess()
    assert len(encode_shards(tasks_of(shards), settings, engine).unchanged) == 4
    assert engine.given == []
    os.unlink("parts/s1.tar.parquet")
    os.utime("s0.tar", (1, 1))
    os.unlink("s3/0.jpg")
    engine = ThisProcess()
    assert [task.source for task in encode_shards(tasks_of(shards), settings, engine).unchanged] == ["s2.tar"]
    assert sorted(engine.given) == ["s0.tar", "s1.tar", "s3"]
    after = bytes_of("parts")
    assert {name: after[name] == before[name] for name in after} == {
        "s0.tar.parquet": False,  # its rows tell the time
        "s1.tar.parquet": True,
        "s2.tar.parquet": True,
        "s3.parquet": False,
    }
    other = WorkerSettings(**{**vars(settings), "exclusion": Exclusion(("5.jpg",))})
    summary = encode_shards(shard_tasks(["s2.tar"], Path("parts"), other.exclusion), other, ThisProcess())
    assert summary.images == PICTURES - 1


def test_a_shard_whose_worker_dies_is_given_out_three_times(shards: list[str], settings: WorkerSettings) -> None:
    engine = ThisProcess({"s0.tar": 2, "s1.tar": 3})
    summary = encode_shards(tasks_of(shards), settings, engine)
    assert engine.given.count("s0.tar") == engine.given.count("s1.tar") == 3
    assert (summary.again, len(summary.encoded)) == (4, 3)
    assert [reason for _, reason in summary.failed] == ["s1.tar: worker ended"]
    with pytest.raises(UnfinishedShards, match=r"1 of 4 shards failed: s1\.tar: worker ended; the others are done"):
        summary.require_all()
    assert engine.closed
    assert run(shards, settings).images == PICTURES


def test_damaged_shards_make_no_part_and_are_named_once(shards: list[str], settings: WorkerSettings) -> None:
    whole = Path("s0.tar").read_bytes()
    Path("garbage.tar").write_bytes(bytes(range(256)) * 40)
    Path("member.tar").write_bytes(whole[:700])
    header = whole.index(b"1.jpg\0")
    Path("header.tar").write_bytes(whole[: header + 100])
    engine = ThisProcess()
    bad = ["garbage.tar", "member.tar", "header.tar"]
    summary = encode_shards(tasks_of([*bad, *shards]), settings, engine)
    assert sorted(task.source for task, _ in summary.failed) == sorted(bad)
    assert all("shard" in reason and "\n" not in reason for _, reason in summary.failed)
    assert len(engine.given) == 7
    assert sorted(bytes_of("parts")) == sorted(f"{name}.parquet" for name in shards)


def test_images_that_can_not_be_read_are_listed_beside_the_part(shards: list[str], settings: WorkerSettings) -> None:
    Path("s3/2.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert run(shards, settings).images == 4 * PICTURES - 1
    [line] = Path("parts/s3.failures.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "s3/2.jpg"
    os.unlink("s3/2.jpg")
    run(shards, settings)
    assert not os.path.exists("parts/s3.failures.jsonl")


def test_a_shard_that_changes_while_it_is_encoded_is_given_out_again(
    shards: list[str], settings: WorkerSettings
) -> None:
    tasks = tasks_of(["s0.tar"])
    os.utime("s0.tar", (1, 1))
    summary = encode_shards(tasks, settings, ThisProcess())
    assert summary.again == 2
    assert "changed while it was encoded" in summary.failed[0][1]
    assert not os.path.exists("parts/s0.tar.parquet")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"version": "0.0.1"}, Misuse, "0.0.1"),
        ({"extras": ("nothing_like_it",)}, Misuse, "nothing_like_it is not installed here"),
        ({"folder": "/nowhere/at/all"}, NotFound, "/nowhere/at/all: not here"),
        ({"identity": None}, IndexMismatch, "checkpoint"),
    ],
)
def test_a_worker_that_lacks_what_the_driver_has_says_so_first(
    settings: WorkerSettings, change: dict[str, object], error: type[BtError], says: str
) -> None:
    if "identity" in change:
        change = {"identity": type(settings.identity)(**{**vars(settings.identity), "fingerprint": "0" * 64})}
    with pytest.raises(error, match=says):
        run(["s0.tar"], WorkerSettings(**{**vars(settings), **change}))
    assert not os.path.exists("parts")


def test_shares_of_a_list(shards: list[str]) -> None:
    tasks = tasks_of(["s{0..2}.tar", "s3"])
    assert [task.source for task in tasks] == shards
    shares = [[task.source for task in every_nth(tasks, f"{share}/3")] for share in (1, 2, 3)]
    assert shares == [["s0.tar", "s3"], ["s1.tar"], ["s2.tar"]]
    for wrong in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5"):
        with pytest.raises(Misuse, match="I/N"):
            every_nth(tasks, wrong)


def test_shards_of_one_name_are_refused(shards: list[str]) -> None:
    os.mkdir("deep")
    os.link("s0.tar", "deep/s0.tar")
    with pytest.raises(Misuse, match=r"s0\.tar and deep/s0\.tar: both would be"):
        tasks_of(["s0.tar", "deep/s0.tar"])
    with pytest.raises(NotFound, match=r"none\.tar"):
        tasks_of(["none.tar"])


def test_parts_make_the_index_that_the_shards_make(
    shards: list[str], settings: WorkerSettings, encoder: ModelEncoder
) -> None:
    from bt_cli.indexing.build import build_index

    run(shards, settings)
    index_tables("merged", ["parts"])
    build_index("whole", shards, encoder)
    with IndexFolder.open("merged") as merged, IndexFolder.open("whole") as whole:
        ours, theirs = merged.table(), whole.table()
    assert ours.drop_columns("embedding").equals(theirs.drop_columns("embedding"))
    # One process put images of several shards into a batch: sums differ in their last bits.
    np.testing.assert_allclose(vectors_of(ours["embedding"]), vectors_of(theirs["embedding"]), atol=1e-3)
