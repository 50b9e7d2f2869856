"""`bt index` killed at random moments and at every step of its commit: nothing is lost, nothing is encoded twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_containers import write_data_set, write_rows, write_shard
from forked_process import in_child
from indexing.fake_encoder import FakeEncoder, embedding_of

from bt_cli.indexing.build import build_index
from bt_cli.preprocessing.image_file import read_image_file
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.manifest import Manifest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

IMAGES = 2000
BATCH = 16


class SlowEncoder(FakeEncoder):
    """Takes two milliseconds a batch, so that a run lasts long enough to be killed."""

    def _batch(self, numbers: range, paths: Any, captions: Any = None) -> Any:
        time.sleep(0.002)
        return super()._batch(numbers, paths, captions)


def rows_of(folder: Path) -> list[dict]:
    with IndexFolder.open(folder) as index:
        return index.table().to_pylist()


def assert_whole(folder: Path) -> None:
    """What a reader finds at any instant: no index yet, or one whose vectors belong to their rows."""
    if not (folder / "manifest.json").exists():
        return
    with IndexFolder.open(folder) as index:
        vectors = index.vectors_of(np.arange(len(index)))
        for path, vector in zip(index.paths(range(len(index))), vectors, strict=True):
            assert np.array_equal(vector, embedding_of(read_image_file(path)).astype(np.float16).astype(np.float32))


def names_in(log: Path) -> list[bytes]:
    return log.read_bytes().split(b"\0")[:-1] if log.exists() else []


def fill_folder(photos: Path) -> None:
    for number in range(IMAGES):
        file = photos / f"{number % 7}/{number:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"image %d" % number)


def fill_containers(photos: Path) -> None:
    """A container of each kind, with as many images."""
    parts = [
        {f"{number:04d}": (b"image %d" % number, ["words"]) for number in range(part, IMAGES, 4)} for part in range(4)
    ]
    write_data_set(photos, parts[0])
    write_shard(photos / "a.tar", parts[1], ".jpg")
    write_shard(photos / "b.tar.gz", parts[2], ".jpg")
    write_rows(photos / "c.parquet", parts[3])


@pytest.mark.slow
@pytest.mark.parametrize("fill", [fill_folder, fill_containers])
def test_twenty_kills(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    photos = tmp_path / "photos"
    fill(photos)
    folder = tmp_path / ".bt"
    chance = random.Random(5)
    encoded: set[bytes] = set()
    in_flight: set[bytes] = set()
    for run in range(21):
        log = tmp_path / f"log-{run}"
        child = in_child(lambda log=log: build_index(folder, [photos], SlowEncoder(BATCH, log=log)))
        if run < 20:
            # The first batch is waited for: else a slow machine would be killed before it has begun.
            began = time.monotonic()
            while not log.exists() and time.monotonic() - began < 20 and run % 4:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
        code = os.waitpid(child, 0)[1]
        assert run < 20 or code == 0
        names = names_in(log)
        assert encoded & set(names) <= in_flight, "a finished batch was encoded again"
        encoded |= set(names)
        in_flight |= set(names[-BATCH:])
        assert_whole(folder)
    assert len(encoded) == IMAGES
    whole = tmp_path / "whole" / ".bt"
    (tmp_path / "whole").mkdir()
    build_index(whole, [photos], FakeEncoder(BATCH))
    mine, theirs = rows_of(folder), rows_of(whole)
    for row in theirs:
        row["path"] = os.path.relpath(row["path"], tmp_path)
    assert mine == theirs
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == [
        "images",
        "images.parquet",
        "lock",
        "manifest",
        "manifest.json",
        "paths",
        "sums",
        "vectors",
        "vectors.faiss",
    ]


STEPS = ("fsync", "replace", "unlink", "ftruncate", "rmdir", "mkdir", "pwrite")


class Killer:
    """Ends the process at the n-th call of a function by which a commit changes the disk."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int) -> None:
        self.left = last
        for name in STEPS:
            patch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os._exit(9)
            return function(*arguments, **options)

        return call


def test_a_kill_at_every_step_of_an_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.jpg").write_bytes(b"image %d" % number)
    folder = tmp_path / ".bt"
    build_index(folder, [photos], FakeEncoder())
    step, finished = 0, False
    while not finished:
        step += 1
        (photos / f"{step % 6}.jpg").write_bytes(b"changed %d" % step)
        os.utime(photos / f"{step % 6}.jpg", ns=(step, step))

        def update(step: int = step) -> None:
            with pytest.MonkeyPatch.context() as patch:
                Killer(patch, step)
                build_index(folder, [photos], FakeEncoder())

        finished = os.waitpid(in_child(update), 0)[1] == 0
        with IndexFolder.open(folder) as index:
            assert len(index) == 6
            assert len(index.table()) == 6
        build_index(folder, [photos], FakeEncoder())
        assert_whole(folder)
    assert step > 10
    assert {path.name for path in folder.glob("*-*.*")} == Manifest.read(folder).files()


def test_a_full_disk_leaves_the_index_and_what_was_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.jpg").write_bytes(b"image %d" % number)
    folder = tmp_path / ".bt"
    build_index(folder, [photos], FakeEncoder())
    before = rows_of(folder)
    (photos / "new.jpg").write_bytes(b"new")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(
            Exception, match=r"\.bt: can't be written: No space left on device; the index is as it was"
        ) as info:
            build_index(folder, [photos], FakeEncoder())
    assert type(info.value).__name__ == "Unwritable"
    assert rows_of(folder) == before
    assert {path.name for path in folder.glob("*-*.*")} == Manifest.read(folder).files()
    encoder = FakeEncoder()
    build_index(folder, [photos], encoder)
    assert encoder.encoded == []
    assert len(rows_of(folder)) == 7
