"""One writer at a time, told by name, and never through a link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bt_cli.errors import IndexBusy, Unwritable
from bt_cli.files.lock import WriterLock


def test_the_second_writer_is_told_who_is_the_first(tmp_path: Path) -> None:
    with WriterLock(tmp_path) as lock:
        assert lock.held
        for _ in range(2):  # asking takes nothing away from what is written there
            with pytest.raises(IndexBusy, match=rf": process {os.getpid()} on .* is writing"), WriterLock(tmp_path):
                pass
    with WriterLock(tmp_path):
        pass
    assert (tmp_path / "lock").read_bytes() == b""


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from bt_cli.files.lock import WriterLock\n"
        "lock = WriterLock(sys.argv[1]); lock.__enter__(); print('locked', flush=True); sys.stdin.read(); os._exit(9)\n"
    )
    repository = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": repository},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(IndexBusy, match=rf": process {other.pid} on "), WriterLock(tmp_path):
            pass
        other.kill()
        other.wait()
    with WriterLock(tmp_path) as lock:
        assert lock.held


@pytest.mark.parametrize("target", ["a file", "nothing", "a folder"])
def test_a_link_in_its_place_is_not_followed(tmp_path: Path, target: str) -> None:
    other = tmp_path / "other"
    if target == "a file":
        other.write_bytes(b"precious")
    elif target == "a folder":
        other.mkdir()
    (tmp_path / "index").mkdir()
    (tmp_path / "index/lock").symlink_to(other)
    with pytest.raises(Unwritable, match=r"index/lock: is a link or no plain file; remove it"):
        WriterLock(tmp_path / "index").__enter__()
    assert not other.exists() if target == "nothing" else other.is_dir() or other.read_bytes() == b"precious"


def test_something_else_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(Unwritable, match="lock: is a link or no plain file"):
        WriterLock(tmp_path).__enter__()
    (tmp_path / "lock").rmdir()
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(Unwritable, match="lock: is a link or no plain file"):
        WriterLock(tmp_path).__enter__()
