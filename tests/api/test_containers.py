"""A server over an index whose images lie in a tar file: pictures and answers as of a folder."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from object_store import parts_server
from PIL import Image

httpx = pytest.importorskip("httpx")
SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"
MEMBERS = ["one.jpg", "../escape.jpg", "deep/two.jpg"]


@pytest.fixture
def shard(tmp_path, bt) -> Path:
    home = tmp_path / "shards"
    home.mkdir()
    with tarfile.open(home / "photos.tar", "w") as tar:
        for number, name in enumerate(MEMBERS, 1):
            data = (SAMPLES / f"scene-{number:04}.jpg").read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    asked = ["index", home / "photos.tar", "--index", home / ".bt", "--model", "tiny", "--dtype", "float32", "-q"]
    assert bt(*asked).code == 0
    return home


def test_members_of_a_tar_file_are_shown_and_read(shard, start, bt, monkeypatch, tmp_path):
    served = start(shard)
    with httpx.Client(base_url=served.url, timeout=60) as web:
        hits = web.get("/api/search", params={"q": "a dog", "rerank": 1}).json()["hits"]
        assert sorted(hit["path"].partition("photos.tar/")[2] for hit in hits) == [
            "%2E%2E/escape.jpg",  # a name and no way out of the file
            "deep/two.jpg",
            "one.jpg",
        ]
        for hit in hits:
            for kind in ("thumb", "image"):
                got = web.get(f"/{kind}/shards/{hit['id']}")
                assert (got.status_code, Image.open(io.BytesIO(got.content)).format) == (200, "JPEG")
        assert web.get(f"/heat/shards/{hits[0]['id']}", params={"q": "a dog"}).content[:4] == b"\x89PNG"
        # Only members that the index holds, by their numbers; nothing is taken from beside the tar file.
        (shard / "escape.jpg").write_bytes(b"not this one")
        assert [web.get(f"/image/shards/{id}").status_code for id in (0, 1, 2, 3)] == [200, 200, 200, 404]
    monkeypatch.chdir(shard)
    monkeypatch.setenv("BT_DTYPE", "float32")
    member = "photos.tar/deep/two.jpg"
    for arguments in (["rerank", "a dog", member, "photos.tar/one.jpg"], ["score", member, "a dog"]):
        here = bt(*arguments, "--model", "tiny", "--json")
        ran = bt(*arguments, "--server", served.url, "--json")
        assert (ran.code, rounded(ran.out)) == (0, rounded(here.out))
    gone = bt("score", "photos.tar/none.jpg", "a dog", "--server", served.url)
    assert (gone.code, gone.out) == (1, "")
    assert "photos.tar/none.jpg" in gone.err
    some = bt("score", "--image", "photos.tar/none.jpg", "--image", member, "a dog", "--server", served.url, "--json")
    assert (some.code, len(some.objects)) == (0, 1)
    assert "skipped photos.tar/none.jpg: no such file" in some.err
    page = tmp_path / "page.html"
    assert bt("search", "a dog", "--server", served.url, "--html", page).code == 0
    assert page.read_text().count("data:image/jpeg;base64,") == 3


def test_images_of_this_machine_are_fetched_where_that_was_allowed(start, bt, tmp_path):
    with parts_server() as site:
        names = [f"scene-{number:04}.jpg" for number in (1, 2)]
        site.files.update({f"/{name}": (SAMPLES / name).read_bytes() for name in names})
        home = tmp_path / "web"
        home.mkdir()
        (home / "list.txt").write_text("\n".join(f"{site.url}/{name}" for name in names))
        asked = ["index", home / "list.txt", "--index", home / ".bt", "--model", "tiny", "--dtype", "float32", "-q"]
        assert bt(*asked, "--allow-private-urls").code == 0
        for allowed, status, read in ((False, 404, 0), (True, 200, 2)):
            served = start(home, allow_private_urls=allowed)
            with httpx.Client(base_url=served.url, timeout=60) as web:
                found = web.get("/api/search", params={"q": "a dog", "rerank": 1}).json()
                assert sum(hit["itm_logit"] is not None for hit in found.get("hits", [])) == read
                assert ("not a public address" in found.get("error", {}).get("message", "")) is not allowed
                assert web.get("/thumb/web/0").status_code == status


def rounded(text: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.3f}", text)
