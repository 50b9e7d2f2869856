"""A file is the old one or the new one."""

from __future__ import annotations

import os
import socket
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


def test_permissions_of_the_file_replaced_stay(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("old")
    (tmp_path / "private").chmod(0o600)
    write_whole(tmp_path / "private", "new")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_the_umask_of_the_moment_counts_and_is_left_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "made", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


@pytest.mark.parametrize("target", ["old", "missing", "no-folder/missing"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old").write_text("old")
    (tmp_path / "link").symlink_to(f"there/{target}")
    (tmp_path / "second").symlink_to("link")
    write_whole(tmp_path / "second", "new")
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / target).read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["link", "second", "there"]


def test_a_link_is_left_alone_by_a_failure(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")

    def fail_halfway() -> None:
        with open_whole(tmp_path / "link") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert (tmp_path / "link").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["link", "old"]


@pytest.mark.parametrize("name", ["folder", "link"])
def test_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(Unwritable) as caught:
        write_whole(tmp_path / name, "x")
    assert str(caught.value) == f"{tmp_path}/{name}: can't be written: Is a directory"
    assert os.listdir(tmp_path / "folder") == []


def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(Unwritable, match="one: can't be written: Too many levels of symbolic links"):
        write_whole(tmp_path / "one", "x")


@pytest.mark.parametrize("through_link", [False, True])
def test_bytes_go_into_a_pipe_which_stays(tmp_path: Path, through_link: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
        write_whole(tmp_path / ("link" if through_link else "pipe"), "through")
        assert reader.stdout is not None
        assert reader.stdout.read() == b"through"
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_format_that_seeks_is_refused_by_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def seek() -> None:
        with open_whole(tmp_path / "pipe") as file:
            file.seek(4)

    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.DEVNULL), pytest.raises(Unwritable) as it:
        seek()
    assert str(it.value).endswith("pipe: can't be written: this format can't be written to a pipe; name a file")


def test_a_character_device_stays_one(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.read_bytes()
    except OSError:
        pytest.skip("making a device is root's, on a file system that allows them")
    write_whole(device, "gone")
    assert stat.S_ISCHR(device.lstat().st_mode)
    assert device.lstat().st_rdev == os.makedev(1, 3)
    assert os.listdir(tmp_path) == ["null"]


def test_a_block_device_and_a_socket_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        where = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{where}/socket")  # a socket's name is 107 bytes at most
        os.close(where)
        with pytest.raises(Unwritable, match="socket: can't be written: a socket stands there; name a file"):
            write_whole(tmp_path / "socket", "x")
    assert stat.S_ISSOCK((tmp_path / "socket").lstat().st_mode)
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 255))
    except OSError:
        pytest.skip("making a device is root's")
    with pytest.raises(Unwritable, match="disk: can't be written: a block device stands there; name a file"):
        write_whole(tmp_path / "disk", "x")
    assert stat.S_ISBLK((tmp_path / "disk").lstat().st_mode)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_standard_output_goes_on_where_it_was_redirected(tmp_path: Path, mode: str) -> None:
    (tmp_path / "out").write_text("old\n")
    code = (
        "from bt_cli.files.atomic_write import write_whole\n"
        "print('one', flush=True); write_whole('/dev/stdout', 'two\\n'); print('three')"
    )
    with open(tmp_path / "out", mode) as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    text = (tmp_path / "out").read_text()
    assert text.splitlines() == ([] if mode == "wb" else ["old"]) + ["one", "two", "three"]
    assert os.listdir(tmp_path) == ["out"]
