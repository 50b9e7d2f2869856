"""What `make demo` promises: reranking puts the right picture first where its mirrors stood before it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = (ROOT / "sample_data" / "demo.sh").read_text()
QUERY, PICTURE = "a green dragon below a unicorn", "scene-0163.jpg"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_demo(bt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.setenv("BT_MODEL", "tiny")
    monkeypatch.setenv("BT_DTYPE", precision)
    assert bt("index", "sample_data/images", "--captions", "sample_data/captions.csv").code == 0

    first = [Path(hit["path"]).name for hit in bt("search", QUERY, "--json", "-k", "5").objects]
    second = bt("search", QUERY, "--json", "-k", "5", "--rerank").objects
    assert first.index(PICTURE) > 0
    assert Path(second[0]["path"]).name == PICTURE
    assert second[0]["itm_logit"] - second[1]["itm_logit"] > 1

    image = f"sample_data/images/{PICTURE}"
    captions = bt("search", "--image", image, "--to", "captions", "--rerank", "--json", "-k", "3").objects
    assert captions[0]["caption"] == QUERY
    right, mirrored = bt("score", image, QUERY, "a green dragon above a unicorn", "--json").objects
    assert right["itm_prob"] > 0.5 > mirrored["itm_prob"]
    words = bt("fill-mask", "a <mask> dragon below a <mask>", "--image", image, "-k", "2")
    assert words.out.splitlines()[0] == QUERY


def test_the_demo_shows_just_that() -> None:
    shown = re.findall(r"^show bt (\S+)", DEMO, re.MULTILINE)
    assert shown == ["index", "search", "search", "search", "score", "fill-mask"]
    assert QUERY in DEMO
    assert PICTURE in DEMO
