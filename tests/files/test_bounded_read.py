"""Reading no more than is stated: of files, of bytes in memory, and of what has no end."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from bt_cli.files.bounded_read import at_most


def test_all_of_what_is_short_and_one_byte_more_of_what_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    with open(path, "rb") as file:
        assert at_most(file, 10) == b"0123456789"
        file.seek(3)
        assert at_most(file, 4) == b"34567"
    assert at_most(io.BytesIO(b"0123456789"), 4) == b"01234"
    with open("/dev/zero", "rb") as file:
        assert at_most(file, 5 << 20) == bytes((5 << 20) + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits a forked process")
def test_memory_is_taken_for_what_is_there(tmp_path: Path) -> None:
    """A process with a limit of its own (`ulimit -v`) reads a small file, whatever the largest may be."""
    import resource

    path = tmp_path / "x"
    path.write_bytes(b"small")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + (256 << 20), held + (256 << 20)))
            with open(path, "rb") as file:
                code = int(at_most(file, 4 << 30) != b"small")
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
