"""Temporary folders: gone with their block, and after a kill with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bt_cli.files import unfinished
from bt_cli.files.temporary_folder import temporary_folder

HOLDS_ONE = (
    "import time\n"
    "from bt_cli.files.temporary_folder import temporary_folder\n"
    "with temporary_folder() as folder:\n"
    "    (folder / 'part.parquet').write_bytes(b'bytes')\n"
    "    print(folder, flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(unfinished, "_swept", set())
    return tmp_path


def test_a_folder_goes_with_its_block(temp: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").write_bytes(b"x")
        assert folder.parent == temp
    assert list(temp.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders there")
def test_a_killed_process_s_folder_is_swept_and_a_living_one_s_stays(temp: Path) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen([sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True) as living,
    ):
        try:
            left, held = (Path(process.stdout.readline().strip()) for process in (killed, living))  # type: ignore[union-attr]
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            long_ago = time.time() - 2 * unfinished.GRACE_SECONDS
            for folder in (left, held):
                os.utime(folder, (long_ago, long_ago))
            assert (left / "part.parquet").exists()
            with temporary_folder():
                assert not left.exists()
                assert (held / "part.parquet").read_bytes() == b"bytes"
        finally:
            living.kill()
