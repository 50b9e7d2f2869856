"""A file is the old one or the new one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bt_cli.errors import Unwritable
from bt_cli.files.atomic_write import open_whole, write_whole


def test_text_and_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.txt", "kätzchen\n")
    write_whole(tmp_path / "new" / "b.bin", b"\x00\xff")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "kätzchen\n".encode()
    assert (tmp_path / "new" / "b.bin").read_bytes() == b"\x00\xff"
    assert sorted(os.listdir(tmp_path / "new")) == ["a.txt", "b.bin"]


def test_a_failure_halfway_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_whole(path, "old")

    def fail_halfway() -> None:
        with open_whole(path) as file:
            file.write(b"half of the new")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table"]


def test_a_kill_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_whole(path, "old")
    code = (
        "import os, sys\nfrom bt_cli.files.atomic_write import open_whole\n"
        "with open_whole(sys.argv[1]) as file:\n    file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_text() == "old"


def test_the_usual_permissions(tmp_path: Path) -> None:
    write_whole(tmp_path / "whole", "x")
    (tmp_path / "plain").write_text("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("whole", "plain")]
    assert modes[0] == modes[1]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unwritable) as caught:
        write_whole(tmp_path / "file" / "below", "x")
    assert str(caught.value) == f"{tmp_path}/file/below: can't be written: a file stands where a folder is needed"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bt_cli.files.atomic_write.os.fsync", full)
    with pytest.raises(Unwritable, match="can't be written: No space left on device"):
        write_whole(tmp_path / "table", "x")
    assert os.listdir(tmp_path) == []
