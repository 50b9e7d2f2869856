"""An index from Python: the answers of the command line, as objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import bt_cli


@pytest.fixture
def folder(tmp_path: Path, checkpoint_folder: Path, bt, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six plain images of different colours with captions, indexed."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        Image.new("RGB", (80, 60), (40 * number, 200 - 30 * number, 90)).save(tmp_path / f"colour {number}.png")
    (tmp_path / "captions.csv").write_text("image,caption\n" + "".join(f"colour {n}.png,tone {n}\n" for n in range(6)))
    made = bt("index", ".", "--captions", "captions.csv", "--model", checkpoint_folder, "--dtype", "float32")
    assert made.code == 0, made.err
    return tmp_path / ".bt"


def test_the_answers_are_those_of_the_command(folder: Path, bt) -> None:
    with bt_cli.Index.open(folder, dtype="float32") as index:
        assert (len(index), index.paths()[0]) == (6, "colour 0.png")
        found = [hit.record() for hit in index.search("a tone", k=4)]
        reranked = [hit.record() for hit in index.search("a tone", k=4, rerank=True)]
        assert repr(index) == f"<Index '{folder}': 6 images, 6 captions, by {index.checkpoint}>"
    assert found == bt("search", "a tone", "-k", "4", "--dtype", "float32", "--json").objects
    assert reranked == bt("search", "a tone", "-k", "4", "--rerank", "--dtype", "float32", "--json").objects


def test_images_captions_sums_and_filters(folder: Path, bt) -> None:
    index = bt_cli.Index.open(dtype="float32")
    by_path = index.search(image=folder.parent / "colour 3.png", k=1)
    assert (by_path[0].path, by_path[0].itc) == ("colour 3.png", pytest.approx(1, abs=1e-4))  # float16 is stored
    with Image.open(folder.parent / "colour 3.png") as image:
        assert index.search(image=image, k=1)[0].path == "colour 3.png"
    texts = [hit.caption for hit in index.search("tone 2", captions=True)]
    assert sorted(text or "" for text in texts) == [f"tone {n}" for n in range(6)]
    assert texts[0] == "tone 2"
    assert {hit.path for hit in index.search("x", subtract=["y"], globs=["colour 1*"])} == {"colour 1.png"}
    assert index.search("tone 2", min_score=2.0) == []


def test_images_need_no_index_to_be_reranked(folder: Path, tmp_path: Path) -> None:
    index = bt_cli.Index.open(folder, dtype="float32")
    hits = index.rerank("a tone", [str(tmp_path / "colour 1.png"), str(tmp_path / "colour 2.png")])
    assert [hit.rank for hit in hits] == [1, 2]
    assert hits[0].score == hits[0].itm_logit >= hits[1].score
    assert len(index.rerank("a tone", [str(tmp_path)], k=3)) == 3


def test_refusals_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(bt_cli.NoIndex, match="no index here"):
        bt_cli.Index.open(tmp_path / "nowhere")
    index = bt_cli.Index.open(folder)
    with pytest.raises(bt_cli.Misuse, match="nothing to search for"):
        index.search()
    with pytest.raises(bt_cli.IndexMismatch, match="made by checkpoint"):
        bt_cli.Index.open(folder, model="tiny").search("a tone")
