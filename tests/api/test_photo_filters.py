"""Dates, places and cameras asked of a server: as the command answers without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from photographs import photograph


@pytest.fixture
def photos(tmp_path: Path, bt, start, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "library"
    facts = {
        "taken": "2024:06:03 14:05:09",
        "offset": "+02:00",
        "make": "Apple",
        "model": "iPhone",
        "place": (48.2, 16.4),
    }
    photograph(home / "june.jpg", **facts)
    photograph(home / "may.jpg", colour=(0, 9, 90), taken="2024:05:03 14:05:09", model="X100V")
    photograph(home / "plain.jpg", colour=(200, 9, 90))
    monkeypatch.chdir(home)
    (home / "q.txt").write_text("a cat\na dog\n")
    (home / "metadata.csv").write_text("file_name,url\njune.jpg,https://example.org/june\nmay.jpg,\n")
    assert bt("index", ".", "--keep", "url", "--model", "tiny", "--dtype", "float32", "-q").code == 0
    monkeypatch.setenv("BT_DTYPE", "float32")
    return start(home)


@pytest.mark.parametrize(
    "options",
    [
        ["a cat", "--after", "2024-06", "--json"],
        ["a cat", "--near", "48.2,16.37,20km", "--camera", "apple*", "--rerank", "--json"],
        ["a cat", "--json"],
        ["a cat", "--before", "2024-06-03T12:05:09Z"],
        ["--queries", "q.txt", "--camera", "x100", "--json"],
        ["--queries", "q.txt", "--after", "2025"],
        ["a cat", "--after", "2025"],
    ],
)
def test_the_same_answers(bt, photos, options: list[str]) -> None:
    def plain(text: str) -> str:
        text = re.sub(r" in \d+\.\d+ s|, [\d.,]+ images/s|, limited by .*", "", text)
        return re.sub(r"-?\d+\.\d{4,}", lambda number: f"{float(number[0]):.3f}", text)

    here, there = bt("search", *options), bt("search", *options, "--server", photos.url)
    assert (there.code, plain(there.out), plain(there.err)) == (here.code, plain(here.out), plain(here.err))


def test_the_api_itself(photos) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=photos.url, timeout=60) as client:
        got = client.get("/api/search", params={"q": "a cat", "after": "2024-06", "facts": "true"}).json()
        assert (got["searched"], got["unknown"]) == (3, 1)
        assert [hit["kept"] for hit in got["hits"]] == [{"url": "https://example.org/june"}]
        assert [(hit["taken"], hit["camera"]) for hit in got["hits"]] == [("2024-06-03T14:05:09+02:00", "Apple iPhone")]
        asked = {"q": "a cat", "cameras": ["x100", "iphone"]}
        got = client.post("/api/search", json=asked).json()
        assert sorted(Path(hit["path"]).name for hit in got["hits"]) == ["june.jpg", "may.jpg"]
        assert "taken" not in got["hits"][0]
        refused = client.post("/api/search", json={"q": "a cat", "near": "there"})
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].startswith("--near there: no place")
        assert client.post("/api/search-many", json={"texts": ["x"], "before": "?"}).status_code == 400
