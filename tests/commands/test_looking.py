"""`--html`, `--open`, `--preview` and `--heatmap`: what they write, open and refuse."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from bt_cli.pages.preview import show_preview
from bt_cli.search.candidates import Hit

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("scene-0163.jpg", "scene-0165.jpg", "scene-0059.jpg"):
        (folder / name).write_bytes((SAMPLE / "images" / name).read_bytes())
    return folder


@pytest.fixture
def index(bt, tmp_path, pictures):
    assert bt("index", pictures, "--model", "tiny", "--index", tmp_path / "ix", "--quiet").code == 0
    return tmp_path / "ix"


def test_a_search_is_a_page(bt, tmp_path, index):
    page = tmp_path / "out.html"
    ran = bt("search", "a green dragon", "--rerank", "--index", index, "--html", page, "--quiet", "--paths")
    assert ran.code == 0
    html = page.read_text("utf-8")
    assert "<h1>a green dragon</h1>" in html
    assert html.count("data:image/jpeg;base64,") == 3
    assert "Moves from place to place" in html
    assert len(ran.out.splitlines()) == 3  # stdout is what it was


def test_open_hands_the_page_or_the_best_image_to_the_system(bt, tmp_path, index, monkeypatch):
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened.part && mv {tmp_path}/opened.part {tmp_path}/opened\n'
    )
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{opener.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.platform", "linux")

    def opened() -> str:
        for _ in range(200):
            if (tmp_path / "opened").exists():
                name = (tmp_path / "opened").read_text()
                (tmp_path / "opened").unlink()
                return name
            time.sleep(0.05)
        raise AssertionError("nothing was opened")

    ran = bt("search", "a green dragon", "--index", index, "--open", "--paths", "--quiet")
    assert ran.code == 0
    assert opened() == str(Path(ran.out.splitlines()[0]).absolute())
    assert bt("search", "a dragon", "--index", index, "--open", "--html", tmp_path / "o.html", "-q").code == 0
    assert opened() == str(tmp_path / "o.html")


def test_preview_without_a_terminal_is_the_table(bt, index):
    ran = bt("search", "a green dragon", "--index", index, "--preview")
    assert ran.code == 0
    assert "--preview needs a terminal; here is the table" in ran.err
    assert "cosine (ITC)" in ran.out
    assert bt("search", "a", "--index", index, "--preview", "--json").code == 2


def test_preview_in_half_blocks(tmp_path):
    from rich.console import Console

    halfcell = pytest.importorskip("textual_image.renderable.halfcell")
    Image.new("RGB", (30, 30), (200, 0, 0)).save(tmp_path / "a.png")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=80)
    hits = [Hit(1, 0, str(tmp_path / "a.png"), 0.5, itc=0.5), Hit(2, 1, str(tmp_path / "gone\x1b.png"), 0.4, itc=0.4)]
    skipped = show_preview(hits, console=console, renderable=halfcell.Image)
    shown = out.getvalue()
    assert "▀" in shown
    assert f"file://{tmp_path}/a.png" in shown
    assert "gone\\x1b.png" in shown
    assert len(skipped) == 1


def test_heat_maps_are_written(bt, tmp_path, pictures):
    image, place = pictures / "scene-0163.jpg", tmp_path / "heat.png"
    assert bt("score", image, "a green dragon", "--model", "tiny", "--heatmap", place, "--quiet").code == 0
    assert Image.open(place).width > 900  # four panels
    ran = bt("fill-mask", "a <mask> dragon", "--image", image, "--model", "tiny", "--heatmap", place, "--quiet")
    assert ran.code == 0
    assert Image.open(place).width < 300  # one


def test_a_heat_map_is_of_one_pair(bt, tmp_path, pictures):
    ran = bt("score", pictures / "scene-0163.jpg", "a", "b", "--model", "tiny", "--heatmap", tmp_path / "h.png")
    assert (ran.code, ran.out) == (2, "")
    assert "--heatmap explains one image with one text, and these are 2 pairs" in ran.err


def test_an_evaluation_is_a_page(bt, tmp_path, pictures):
    captions = tmp_path / "captions.csv"
    rows = [
        "scene-0163.jpg,a green snail below a blue crab",
        "scene-0165.jpg,a unicorn to the left of a green dragon",
        "scene-0059.jpg,a green dragon <b>below</b> a unicorn",
    ]
    captions.write_text("image,caption\n" + "\n".join(rows) + "\n")
    page = tmp_path / "report.html"
    ran = bt(
        "eval", captions, "--images", pictures, "--model", "tiny", "--rerank", "--html", page, "--no-resume", "--quiet"
    )
    assert ran.code == 0
    html = page.read_text("utf-8")
    assert html.count('class="chart"') == 4
    assert "after reranking (ITM)" in html
    assert "<b>" not in html
    assert "a green dragon &lt;b&gt;below&lt;/b&gt; a unicorn" in html
