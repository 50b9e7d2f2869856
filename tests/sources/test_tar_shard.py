"""Tar shards: their members, names that are only names, damage that is noticed, and bytes from any place."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.errors import UnreadableImage
from bt_cli.sources import tar_shard
from bt_cli.sources.tar_shard import TarShard, member_names, open_shard


def write_shard(path: Path, members: list[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT) -> Path:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(data.getvalue() if path.suffix == ".tar" else gzip.compress(data.getvalue()))
    return path


MEMBERS = [("b.jpg", b"b" * 700), ("a.jpg", b"a"), ("sub/c.jpg", b"c" * 512), ("a.txt", b"words"), ("empty", b"")]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_and_their_bytes(tmp_path: Path, suffix: str, format: int) -> None:
    members = [*MEMBERS, ("d/" * 60 + "a-name-longer-than-the-header-holds.jpg", b"d" * 10)]
    if format == tarfile.USTAR_FORMAT:
        members.pop()
    shard = TarShard(str(write_shard(tmp_path / f"x{suffix}", members, format=format)))
    assert shard.damage is None
    assert [(member.name, member.size) for member in shard.members] == [(name, len(data)) for name, data in members]
    for name, content in reversed(members):  # backwards: a compressed one begins anew
        assert shard.read(name) == content
        assert shard.read(name, 3) == content[:3]
    with pytest.raises(FileNotFoundError, match="no such member"):
        shard.read("other.jpg")


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=12)
        | st.sampled_from(["..", "../x.jpg", "a/../../x", "/etc/x.jpg", "./a", "a//b", ".", "x\udcff.jpg", "a", "a"]),
        max_size=8,
    )
)
def test_names_are_only_names(names: list[str]) -> None:
    found = [member.name for member in member_names(iter((name, 0, 0) for name in names))]
    assert len(set(found)) == len(found) == len(names)
    for name in found:
        joined = os.path.normpath(os.path.join("/shards/x.tar", name))
        assert joined == f"/shards/x.tar/{name}"


def test_a_second_member_of_a_name_has_a_number(tmp_path: Path) -> None:
    shard = TarShard(str(write_shard(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2"), ("../a.jpg", b"3")])))
    assert [member.name for member in shard.members] == ["a.jpg", "a.jpg#2", "%2E%2E/a.jpg"]
    assert [shard.read(member.name) for member in shard.members] == [b"1", b"2", b"3"]


def test_a_link_to_a_member_is_that_member(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    os.link(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.jpg", "b.jpg"):
            archive.add(tmp_path / name, arcname=name)
    shard = TarShard(str(tmp_path / "x.tar"))
    assert [(member.name, shard.read(member.name)) for member in shard.members] == [
        ("a.jpg", b"content"),
        ("b.jpg", b"content"),
    ]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_every_cut_is_noticed_and_what_is_before_it_stays(tmp_path: Path, suffix: str) -> None:
    whole = write_shard(tmp_path / "whole.tar", [(f"{n}.jpg", bytes([n]) * (300 + 400 * n)) for n in range(4)])
    sound = TarShard(str(whole))
    data = whole.read_bytes()
    end = sound.members[-1].offset + 2048
    for cut in [*range(0, end, 97), *(member.offset - 512 for member in sound.members), *range(512, end, 512)]:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[:cut] if suffix == ".tar" else gzip.compress(data[:cut]))
        shard = TarShard(str(path))
        assert shard.damage is not None, cut
        kept = [member for member in sound.members if member.offset + member.size <= cut]
        if suffix == ".tar":
            assert shard.members == kept
        for member in shard.members:
            if member in kept:
                assert shard.read(member.name) == sound.read(member.name)
            else:
                with pytest.raises(UnreadableImage, match="ends within it"):
                    shard.read(member.name)


def test_a_header_that_is_no_header_is_not_the_end(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "x.tar", [("a.jpg", b"a"), ("b.jpg", b"b"), ("c.jpg", b"c")])
    data = bytearray(path.read_bytes())
    at = TarShard(str(path)).members[1].offset - 512
    while data[at + 156 : at + 157] not in (b"0", b"\0"):
        at -= 512
    data[at : at + 512] = os.urandom(512)
    path.write_bytes(data)
    shard = TarShard(str(path))
    assert [member.name for member in shard.members] == ["a.jpg"]
    assert shard.damage == f"cut off or damaged at byte {at:,}"


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000, b"\x1f\x8b garbage", os.urandom(3000)])
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_what_is_no_archive_says_so(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    shard = TarShard(str(tmp_path / name))
    assert shard.members == []
    assert shard.damage is not None


def test_a_compressed_shard_cut_in_its_compression(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "x.tar.gz", [(f"{n}.jpg", os.urandom(5000)) for n in range(9)])
    path.write_bytes(path.read_bytes()[:20_000])
    shard = TarShard(str(path))
    assert shard.damage is not None
    assert shard.members[0].name == "0.jpg"
    assert len(shard.read("0.jpg")) == 5000


def test_threads_read_a_compressed_shard_a_little_out_of_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_shard, "WINDOW", 1 << 21)
    contents = {f"{n:02}.jpg": os.urandom(400_000) for n in range(20)}
    shard = TarShard(str(write_shard(tmp_path / "x.tar.gz", list(contents.items()))))
    failures: list[str] = []

    def read(names: list[str]) -> None:
        failures.extend(name for name in names if shard.read(name) != contents[name])

    threads = [threading.Thread(target=read, args=(list(contents)[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(map(len, shard._stream._kept.values())) <= (1 << 21) + (1 << 20)  # type: ignore[union-attr]


def test_a_shard_is_listed_once_while_it_stays_the_same(tmp_path: Path) -> None:
    path = str(write_shard(tmp_path / "x.tar", MEMBERS))
    first = open_shard(path)
    assert open_shard(path) is first
    write_shard(tmp_path / "x.tar", [*MEMBERS, ("new.jpg", b"new")])
    assert open_shard(path).read("new.jpg") == b"new"
