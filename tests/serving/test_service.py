"""What a service does without HTTP: lanes, batches of a few milliseconds, thumbnails, its settings."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from bt_cli.errors import Misuse
from bt_cli.serving.lanes import Cancelled, Job, Lane
from bt_cli.serving.micro_batches import MicroBatches
from bt_cli.serving.refusals import Refusal
from bt_cli.serving.settings import Settings
from bt_cli.serving.thumbnails import Thumbnails

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"


def test_other_machines_need_a_token():
    with pytest.raises(Misuse, match="give a --token"):
        Settings(host="0.0.0.0").check()
    Settings(host="0.0.0.0", token="x").check()
    Settings(host="::1").check()


async def never() -> None:
    await asyncio.sleep(3600)


def test_a_full_lane_turns_away_and_a_late_one_is_told():
    async def run() -> None:
        lane = Lane("test", 1, 0)
        hold = threading.Event()
        first = asyncio.ensure_future(lane.run(lambda job: hold.wait(10), gone=never, seconds=10))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as full:
            await lane.run(lambda job: None, gone=never, seconds=1)
        assert full.value.status == 503
        hold.set()
        assert await first
        with pytest.raises(Refusal) as late:
            await lane.run(lambda job: time.sleep(0.3), gone=never, seconds=0.05)
        assert late.value.status == 504
        lane.close()

    asyncio.run(run())


def test_work_ends_between_batches_when_its_caller_goes():
    ended = threading.Event()

    def work(job: Job) -> None:
        try:
            while True:
                time.sleep(0.01)
                job.check(1, 2)
        except Cancelled:
            ended.set()
            raise

    async def soon() -> None:
        await asyncio.sleep(0.1)

    async def run() -> None:
        lane = Lane("test", 1, 1)
        with pytest.raises(Cancelled):
            await lane.run(work, gone=soon, seconds=10)
        assert await asyncio.to_thread(ended.wait, 5)
        await asyncio.sleep(0.05)
        assert lane.inside == 0
        lane.close()

    asyncio.run(run())


def test_micro_batches_share_work_and_faults_stay_with_their_own():
    sizes: list[int] = []
    started = threading.Event()

    def work(items):
        started.wait(5)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]

    batches = MicroBatches(work, most=8, wait=0.01, name="test", counted=sizes.append)
    answers: dict[int, object] = {}

    def ask(item: int) -> None:
        try:
            answers[item] = batches.ask([item])[0]
        except ValueError as error:
            answers[item] = str(error)

    threads = [threading.Thread(target=ask, args=(item,)) for item in (1, 2, 13, 4, 5)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    started.set()
    for thread in threads:
        thread.join(5)
    assert answers == {1: 2, 2: 4, 13: "thirteen", 4: 8, 5: 10}
    assert max(sizes) > 1
    batches.close()
    assert batches.ask([7]) == [14]


def test_thumbnails_keep_within_their_bound(tmp_path):
    kept = Thumbnails(tmp_path / "kept", 40_000)
    for number in range(1, 12):
        data = kept.jpeg(str(SAMPLES / f"scene-{number:04}.jpg"), 320)
        assert data[:2] == b"\xff\xd8"
        assert sum(path.stat().st_size for path in (tmp_path / "kept").iterdir()) <= 40_000
    assert kept.jpeg(str(SAMPLES / "scene-0011.jpg"), 320) == data
