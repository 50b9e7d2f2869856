"""What a killed writer left goes with the next writing of the same name; what a living one writes stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bt_cli.files import unfinished
from bt_cli.files.atomic_write import write_whole

WRITERS = {
    "file": "from bt_cli.files.atomic_write import open_whole\nwith open_whole(sys.argv[1]) as file:\n    wait()\n",
    "checkpoint": (
        "from bt_cli.checkpoints import saving\nfrom bt_cli.checkpoints.checkpoint import Checkpoint\n"
        "saving._write_weights = lambda *_: wait()\n"
        "saving.save_checkpoint(Checkpoint.open('tiny').network(), sys.argv[1])\n"
    ),
}
WAIT = "import sys, time\ndef wait():\n    print('writing', flush=True)\n    time.sleep(60)\n"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is swept there")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_part_is_swept_once_its_writer_is_dead(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_swept", set())
    target = tmp_path / "out"
    command = [sys.executable, "-c", WAIT + WRITERS[kind], str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        (part,) = tmp_path.iterdir()
        age(part)
        unfinished.sweep_parts(tmp_path, "out")
        assert list(tmp_path.iterdir()) == [part], "its writer lives"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    monkeypatch.setattr(unfinished, "_swept", set())
    write_whole(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def age(path: Path) -> None:
    then = time.time() - 2 * unfinished.GRACE_SECONDS
    os.utime(path, (then, then))


def test_what_is_young_or_of_another_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_swept", set())
    names = [".out.0123abcd.part", ".out.csv.0123abcd.part", ".out.part", "out.0123abcd.part", ".out.0123abcd9.part"]
    for name in names:
        (tmp_path / name).write_text("")
        if name != names[0]:
            age(tmp_path / name)
    unfinished.sweep_parts(tmp_path, "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
