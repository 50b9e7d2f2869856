"""What is opened as a plain file, and what is told from one without waiting for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bt_cli.files.plain_file import open_plain


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    with open_plain(tmp_path / "x") as file:
        assert file.read() == b"content"
        assert file.name is not None


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (os.mkfifo, OSError, "a pipe or a device, not a file"),
        (lambda path: os.symlink("/dev/zero", path), OSError, "a pipe or a device, not a file"),
        (lambda path: os.symlink("/proc/kmsg", path), OSError, "a pipe or a device, not a file"),
        (os.mkdir, IsADirectoryError, "Is a directory"),
        (lambda path: None, FileNotFoundError, "No such file or directory"),
    ],
)
def test_what_is_none(tmp_path: Path, make: Callable[[Path], None], error: type[OSError], said: str) -> None:
    if said.startswith("a pipe") and not os.path.exists("/proc/kmsg"):
        pytest.skip("needs /proc")
    make(tmp_path / "x")
    with pytest.raises(error) as caught:
        open_plain(tmp_path / "x")
    assert caught.value.strerror == said
    assert caught.value.filename == str(tmp_path / "x")
