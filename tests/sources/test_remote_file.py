"""Files of the web and of a store, read in parts from real servers on this machine."""

from __future__ import annotations

import io
import random
import tarfile

import pytest
from object_store import object_store, parts_server

from bt_cli.sources.remote_file import AHEAD, listed, open_remote, read_part, remote_stat
from bt_cli.sources.web_address import WebImage

CONTENT = random.Random(3).randbytes(3 * AHEAD + 77)


def random_reads(url: str) -> None:
    """Whatever is read wherever is what a file of these bytes gives."""
    chance = random.Random(1)
    with open_remote(url) as file, io.BytesIO(CONTENT) as expected:
        for _ in range(30):
            offset, size = chance.randrange(len(CONTENT) + 10), chance.choice((1, 512, 4096, AHEAD))
            assert file.seek(offset) == expected.seek(offset)
            assert file.read(size) == expected.read(size)
        assert file.seek(-5, io.SEEK_END) == expected.seek(-5, io.SEEK_END)
        assert file.read() == expected.read()


def test_a_file_of_the_web() -> None:
    with parts_server() as server:
        server.files["/a b.tar"] = CONTENT
        url = WebImage(f"{server.url}/a%20b.tar")
        server.files["/a%20b.tar"] = CONTENT
        before = remote_stat(url)
        assert before.size == len(CONTENT)
        assert read_part(url, 5, 7) == CONTENT[5:12]
        assert read_part(url, len(CONTENT) - 2, 100) == CONTENT[-2:]
        assert read_part(url, 5, 0) == b""
        random_reads(url)
        server.files["/a%20b.tar"] = CONTENT[::-1]
        assert remote_stat(url).size == before.size
        assert remote_stat(url) != before
        for missing, reason in ((f"{server.url}/none", "404"), (f"{server.url}/whole/a%20b.tar", "no parts")):
            with pytest.raises(OSError, match=reason):
                remote_stat(WebImage(missing))
        with pytest.raises(OSError, match="not a public address"):
            remote_stat(f"{server.url}/a%20b.tar")
    with pytest.raises(OSError, match="refused"):
        remote_stat(url)


def test_headers_of_a_tar_file_are_found_without_reading_it_member_by_member() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for number in range(2000):
            member = tarfile.TarInfo(f"{number:05}.jpg")
            member.size = 1000
            archive.addfile(member, io.BytesIO(bytes(1000)))
    with parts_server() as server:
        server.files["/x.tar"] = written.getvalue()
        with open_remote(WebImage(f"{server.url}/x.tar")) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            assert len(archive.getnames()) == 2000
        assert len(server.asked) <= 3


def test_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch) as store:
        store.create_bucket(Bucket="pictures")
        for key, content in {"a/2.jpg": b"two", "a/b/1.jpg": b"one!", "a/x y#1.jpg": b"three", "big": CONTENT}.items():
            store.put_object(Bucket="pictures", Key=key, Body=content)
        names = ["a/2.jpg", "a/b/1.jpg", "a/x y#1.jpg"]
        for url in ("s3://pictures/a", "s3://pictures/a/"):
            found = listed(url)
            assert found is not None
            assert [file.url for file in found] == [f"s3://pictures/{name}" for name in names]
            assert [file.stat for file in found] == [remote_stat(file.url) for file in found]
            assert [file.stat.size for file in found] == [3, 4, 5]
        fitting = listed("s3://pictures/a/*.jpg")
        assert [file.url for file in fitting or []] == ["s3://pictures/a/2.jpg", "s3://pictures/a/x y#1.jpg"]
        assert listed("s3://pictures/a/2.jpg") is None
        random_reads("s3://pictures/big")
        before = remote_stat("s3://pictures/a/2.jpg")
        store.put_object(Bucket="pictures", Key="a/2.jpg", Body=b"owt")
        assert remote_stat("s3://pictures/a/2.jpg") != before
        for missing in ("s3://pictures/none", "s3://nothing-here/a", "s3://pictures/none/*.jpg"):
            with pytest.raises(FileNotFoundError):
                listed(missing)
        with pytest.raises(FileNotFoundError):
            remote_stat("s3://pictures/none")
    with pytest.raises(OSError):
        remote_stat("s3://pictures/big")


def test_a_file_that_changes_in_the_middle_is_not_read_as_one() -> None:
    with parts_server() as server:
        server.files["/a.tar"] = CONTENT
        url = WebImage(f"{server.url}/a.tar")
        with open_remote(url) as file:
            assert file.read(AHEAD) == CONTENT[:AHEAD]
            server.files["/a.tar"] = CONTENT[::-1]
            with pytest.raises(OSError, match="it was changed while it was read; run the command again"):
                file.read()
        with open_remote(url) as file:
            assert file.read() == CONTENT[::-1]
