"""Images on the web through the commands: equal to those of a folder, bounded, and asked for once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet
import pytest
from picture_site import Site, picture_site
from PIL import Image

from bt_cli.sources import web_image
from bt_cli.store.index_folder import IndexFolder
from bt_cli.web import host_address

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
COUNT = 40
OPEN = "--allow-private-urls"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Iterator[Site]:
    """The working directory, a folder of images, and a site of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(COUNT):
        pixels = generator.integers(0, 255, (12 + number, 16, 3), dtype=np.uint8)
        file = tmp_path / "photos" / f"p {number:02}.png"
        Image.fromarray(pixels).save(file)
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    with picture_site(tmp_path / "photos") as site:
        yield site


def listed(site: Site, numbers: range | list[int] = range(COUNT)) -> list[str]:
    return [f"{site.url}/p%20{number:02}.png" for number in numbers]


def rows_of(folder: str) -> dict[str, tuple[object, ...]]:
    """What an index has of each image, by the file's own name."""
    with IndexFolder.open(folder) as index:
        columns = ["path", "size", "mtime", "content_hash", "width", "height", "embedding"]
        rows = index.table(columns).to_pylist()
    return {re.split(r"/p(?: |%20)", row.pop("path"))[1]: tuple(map(str, row.values())) for row in rows}


def test_a_list_gives_the_rows_of_the_folder(bt: Bt, site: Site, tmp_path: Path) -> None:
    Path("urls.txt").write_text("\n".join(listed(site)) + "\n")
    assert bt("index", "photos", "--index", "folder").code == 0
    ran = bt("index", "urls.txt", "--index", "web", OPEN)
    assert ran.code == 0, ran.err
    assert rows_of("web") == rows_of("folder")
    assert sorted(site.asked) == sorted(url.removeprefix(site.url) for url in listed(site))
    found = {}
    for name in ("folder", "web"):
        ran = bt("search", "a red car", "--index", name, "--rerank", "--candidates", "12", "--json", OPEN)
        assert ran.code == 0, ran.err
        found[name] = [(re.split("[ %]", hit["path"])[-1][-6:], hit["itm_logit"], hit["itc"]) for hit in ran.objects]
    assert found["web"] == found["folder"]
    table = {}
    for name, root in (("folder", "photos"), ("web", "urls.txt")):
        assert bt("encode", "images", root, "-o", f"{name}.parquet", OPEN).code == 0
        read = pyarrow.parquet.read_table(f"{name}.parquet")
        table[name] = sorted(zip(*(read.column(c).to_pylist() for c in ("content_hash", "mtime", "size")), strict=True))
    assert table["web"] == table["folder"]


def test_an_update_asks_only_for_what_is_new(bt: Bt, site: Site) -> None:
    Path("urls.csv").write_text("url\n" + "\n".join(listed(site, range(5))))
    assert bt("index", "urls.csv", OPEN).code == 0
    site.asked.clear()
    assert bt("index", "--json", OPEN).objects[0]["unchanged"] == 5
    assert site.asked == []
    Path("urls.csv").write_text("url\n" + "\n".join(listed(site, [1, 2, 3, 4, 5, 6])))
    Path("more.txt").write_text("\n".join(listed(site, [6, 7])))
    record = bt("index", "more.txt", "--json", OPEN).objects[0]
    assert (record["added"], record["removed"], record["unchanged"]) == (2, 1, 4)
    record = bt("index", "--json", OPEN).objects[0]
    assert (record["added"], record["removed"], record["unchanged"]) == (1, 0, 6)
    assert sorted(site.asked) == sorted(url.removeprefix(site.url) for url in listed(site, [6, 7, 5]))
    os.rename("photos/p 20.png", "photos/p 02.png")
    assert bt("index", "--json", OPEN).objects[0]["unchanged"] == 7
    record = bt("index", "--verify", "--json", OPEN).objects[0]
    assert (record["updated"], record["unchanged"]) == (1, 6)


def test_a_list_that_is_not_there_keeps_its_rows(bt: Bt, site: Site) -> None:
    Path("urls.txt").write_text("\n".join(listed(site, range(4))))
    assert bt("index", "urls.txt", "photos", OPEN).code == 0
    os.rename("urls.txt", "away.txt")
    ran = bt("index", "--json", OPEN)
    assert ran.code == 0
    assert ran.objects[0]["unchanged"] == COUNT + 4
    assert f"not there now, or without images: {os.path.abspath('urls.txt')} (4)" in ran.err
    ran = bt("index", "--forget", "urls.txt", "--json")
    assert (ran.objects[0]["removed"], ran.objects[0]["unchanged"]) == (4, COUNT)
    site.asked.clear()
    url = listed(site, [3])[0]
    assert bt("index", url, "--json", OPEN).objects[0]["encoded"] == 1
    assert bt("index", "--json").objects[0]["unchanged"] == COUNT + 1
    assert bt("index", "--forget", url, "--json").objects[0]["removed"] == 1
    assert len(site.asked) == 1


def test_what_is_hostile_is_skipped_named_and_counted(bt: Bt, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_image, "SECONDS", 1.0)
    monkeypatch.setattr(web_image, "BYTES", 4 << 20)
    Path("photos/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    hostile = ["page", "endless", "drip", "loop", "gone.png", "broken.png"]
    lines = [
        listed(site, [1])[0],
        *(f"{site.url}/{name}" for name in hostile),
        "no address",
        "http://nohost.invalid/a.png",
    ]
    Path("urls.txt").write_text("\n".join([*lines, listed(site, [2])[0]]))
    ran = bt("index", "urls.txt", OPEN, "--json")
    assert ran.code == 0, ran.err
    assert (ran.objects[0]["added"], ran.objects[0]["skipped"]) == (2, 8)
    here = site.url
    reasons = dict(re.findall(r"bt: skipped (\S+): (.*)", ran.err))
    assert reasons[f"{os.path.abspath('urls.txt')}:8"] == "no address: no address"
    assert reasons[f"{here}/page"] == "the server sends text/html, and no image"
    assert reasons[f"{here}/endless"] == "larger than 4 MiB"
    assert reasons[f"{here}/drip"] == "no whole answer within 1 s"
    assert reasons[f"{here}/loop"] == "more than 5 redirects"
    assert reasons[f"{here}/gone.png"].startswith("the server says 404")
    assert reasons[f"{here}/broken.png"].startswith("broken image") or "not an image" in reasons[f"{here}/broken.png"]
    assert "http://nohost.invalid/a.png" in reasons


def test_private_addresses_are_asked_only_when_allowed(bt: Bt, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("urls.txt").write_text(listed(site, [1])[0])
    ran = bt("index", "urls.txt")
    assert ran.code == 1
    assert "127.0.0.1, which is not a public address; --allow-private-urls asks it anyway" in ran.err
    assert not Path(".bt").exists()
    for command in (["score", listed(site, [1])[0], "a dog"], ["rerank", "a dog", listed(site, [1])[0]]):
        ran = bt(*command)
        assert ran.code == 1
        assert "not a public address" in ran.err
        assert bt(*command, OPEN).code == 0
    assert len(site.asked) == 2
    # The site's own address counts as public now: a redirect from it to another of this machine does not.
    monkeypatch.setattr(host_address, "is_public", lambda address: address == "127.0.0.1")
    ran = bt("score", f"{site.url}/away", "a dog")
    assert ran.code == 1
    assert "127.0.0.2 is 127.0.0.2, which is not a public address" in ran.err


def test_rerank_and_score_take_addresses_as_files(bt: Bt, site: Site) -> None:
    files = [f"photos/p {number:02}.png" for number in (3, 4, 5)]
    there = bt("rerank", "two dogs", *files, "--json").objects
    for given in (listed(site, [3, 4, 5]), ["list.txt"]):
        Path("list.txt").write_text("\n".join(listed(site, [3, 4, 5])))
        ran = bt("rerank", "two dogs", *given, OPEN, "--json")
        assert ran.code == 0, ran.err
        assert [hit["itm_logit"] for hit in ran.objects] == [hit["itm_logit"] for hit in there]
        assert ran.objects[0]["path"].startswith(site.url)
    piped = bt("rerank", "two dogs", "-", OPEN, "--paths", stdin="\n".join(listed(site, [3, 4, 5])).encode())
    assert piped.out.splitlines() == [hit["path"] for hit in ran.objects]
    scores = [bt("score", image, "two dogs", OPEN, "--json").objects[0] for image in (files[0], listed(site, [3])[0])]
    assert scores[0]["itm_logit"] == scores[1]["itm_logit"]
    Path("pairs.csv").write_text(f"image,caption\n{listed(site, [3])[0]},two dogs\n")
    assert bt("score", "--pairs", "pairs.csv", OPEN, "--json").objects[0]["itm_logit"] == scores[0]["itm_logit"]


def test_fill_mask_takes_an_address(bt: Bt, site: Site) -> None:
    (url,) = listed(site, [3])
    ask = ("fill-mask", "two <mask>", "--json", "--image")
    ran = bt(*ask, url)
    assert ran.code == 1
    assert "not a public address; --allow-private-urls asks it anyway" in ran.err
    ran = bt(*ask, url, OPEN)
    assert ran.code == 0, ran.err
    there = bt(*ask, "photos/p 03.png").objects
    assert [{**word, "image": ""} for word in ran.objects] == [{**word, "image": ""} for word in there]


def test_captions_globs_and_export_know_addresses(bt: Bt, site: Site) -> None:
    urls = listed(site, [1, 2])
    Path("urls.tsv").write_text(f"a red car\t{urls[0]}\ntwo dogs\t{urls[1]}\n")
    Path("captions.csv").write_text(f"image,caption\n{urls[0]},a red car\n{urls[1]},two dogs\n")
    ran = bt("index", "urls.tsv", "photos", "--captions", "captions.csv", OPEN)
    assert ran.code == 0, ran.err
    hits = bt("search", "a red car", "--to", "captions", "--json").objects
    assert {hit["path"] for hit in hits} == set(urls)
    assert {hit["path"] for hit in bt("search", "x", "--glob", f"{site.url}/*", "--json").objects} == set(urls)
    assert {hit["path"] for hit in bt("search", "x", "--glob", "127.0.0.1*/*", "--json").objects} == set(urls)
    above = bt("search", "x", "--glob", f"{os.path.dirname(os.getcwd())}/**", "-k", "100", "--json").objects
    assert len(above) == COUNT
    assert not any(hit["path"] in urls for hit in above)
    assert bt("search", "x", "--glob", "!photos/*", "--paths").out.splitlines()[:1][0] in urls
    assert bt("export", "--to", "npy", "-o", "x.npy", "--absolute-paths").code == 0
    assert urls[0] in Path("x.rows.jsonl").read_text()
    page = bt("search", "x", "--glob", f"{site.url}/*", "--html", "page.html", OPEN)
    assert page.code == 0, page.err
    assert f'href="{urls[0]}"' in Path("page.html").read_text()
    assert Path("page.html").read_text().count("data:image/jpeg") >= 2
