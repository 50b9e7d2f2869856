"""Images on their way: what is here already is fetched from nobody."""

from __future__ import annotations

import io
import tarfile
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import parts_server

from bt_cli.sources import remote_copy
from bt_cli.sources.fetching import CONNECTIONS, Fetching, fetched_ahead
from bt_cli.sources.member import at_hand, open_container
from bt_cli.sources.web_address import WebImage

COUNT = 3 * CONNECTIONS
IMAGES = [number.to_bytes(2, "big") * (number + 1) for number in range(COUNT)]


def tar_of_images() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for number, image in enumerate(IMAGES):
            entry = tarfile.TarInfo(f"{number:09d}")
            entry.size = len(image)
            archive.addfile(entry, io.BytesIO(image))
    return written.getvalue()


def parquet_of_images() -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"image": IMAGES}), written)
    return written.getvalue()


def arrow_of_images() -> bytes:
    written = io.BytesIO()
    table = pa.table({"image": IMAGES})
    with pa.ipc.new_stream(written, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    return written.getvalue()


SHARDS = {"a.tar": tar_of_images, "a.parquet": parquet_of_images, "a.arrow": arrow_of_images}


@pytest.mark.parametrize("name", SHARDS)
def test_images_of_a_shard_that_is_here_are_read_by_whoever_asks(name: str) -> None:
    with parts_server() as store:
        store.files[f"/{name}"] = SHARDS[name]()
        shard = WebImage(f"{store.url}/{name}")
        paths = [WebImage(f"{shard}/{number:09d}") for number in range(COUNT)]
        assert at_hand(paths[0]) is None  # nobody was asked of the shard
        assert [member.name for member in open_container(shard).members] == [f"{number:09d}" for number in range(COUNT)]
        before = len(store.asked)
        found = []
        for fetching in fetched_ahead(paths):
            assert isinstance(fetching, Fetching)
            found.append(fetching.result().content)
            assert not any(thread.name in ("bt-fetch", "bt-store") for thread in threading.enumerate())
        assert found == IMAGES
        assert len(store.asked) == before


def test_what_is_not_here_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_copy, "SHARE", 1 << 60)  # no room for a copy
    monkeypatch.setattr(remote_copy.COPY, "_limit", 0)
    with parts_server() as store:
        store.files["/b.tar"] = tar_of_images()
        shard = WebImage(f"{store.url}/b.tar")
        assert len(open_container(shard).members) == COUNT
        before = len(store.asked)
        paths = [WebImage(f"{shard}/{number:09d}") for number in range(COUNT)]
        assert [fetching.result().content for fetching in fetched_ahead(paths)] == IMAGES
        assert len(store.asked) == before + COUNT
