"""Reranking a TREC run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import FakeModel

from bt_cli.datasets.trec import RunEntry, encode_id
from bt_cli.errors import Misuse, NotFound, UnreadableImage
from bt_cli.search.rerank_run import DocumentFinder, rerank_run
from bt_cli.sources.web_address import WebImage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shown = {"a.jpg": "dog left of cat", "b b.jpg": "cat left of dog", "c.jpg": "red car", "broken.jpg": "broken"}
    for name, text in shown.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run_of(**queries: str) -> dict[str, list[RunEntry]]:
    return {
        query: [RunEntry(query, name, rank, 1.0 / rank, "x") for rank, name in enumerate(names.split(), 1)]
        for query, names in queries.items()
    }


def test_every_query_is_ordered_and_each_image_and_text_goes_in_once(folder: Path) -> None:
    run = run_of(q2="a.jpg b%20b.jpg c.jpg", q1="c.jpg a.jpg", q3="a.jpg")
    model = FakeModel()
    texts = {"q1": "red car", "q2": "cat left of dog", "q3": "red car", "unused": "x"}
    found = rerank_run(model, run, texts, DocumentFinder(folder))
    assert [(query, [name for name, _ in hits]) for query, hits in found.queries.items()] == [
        ("q2", ["b%20b.jpg", "a.jpg", "c.jpg"]),
        ("q1", ["c.jpg", "a.jpg"]),
        ("q3", ["a.jpg"]),
    ]
    assert [hit.rank for _, hit in found.queries["q2"]] == [1, 2, 3]
    assert found.queries["q2"][0][1].path == str(folder / "b b.jpg")
    assert model.calls == [("itm", 3, 2, 6)]
    assert (found.pairs, found.images, found.skipped) == (6, 3, [])


def test_ties_keep_the_runs_order(folder: Path) -> None:
    found = rerank_run(FakeModel(), run_of(q="c.jpg b%20b.jpg a.jpg"), {"q": "tree"}, DocumentFinder(folder))
    assert [name for name, _ in found.queries["q"]] == ["c.jpg", "b%20b.jpg", "a.jpg"]


def test_candidates_limit_what_is_read(folder: Path) -> None:
    model = FakeModel()
    found = rerank_run(model, run_of(q="c.jpg a.jpg b%20b.jpg"), {"q": "cat"}, DocumentFinder(folder), candidates=2)
    assert [name for name, _ in found.queries["q"]] == ["a.jpg", "c.jpg"]
    assert model.calls == [("itm", 2, 1, 2)]


def test_unreadable_and_missing_images_are_named(folder: Path) -> None:
    run = run_of(q="broken.jpg a.jpg gone.jpg", r="gone.jpg")
    find = DocumentFinder(folder)
    found = rerank_run(FakeModel(), run, {"q": "cat", "r": "dog"}, find)
    assert {query: [name for name, _ in hits] for query, hits in found.queries.items()} == {"q": ["a.jpg"], "r": []}
    assert found.skipped == [
        f"{folder / 'broken.jpg'}: not an image",
        f"{folder / 'gone.jpg'}: No such file or directory",
    ]
    with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
        rerank_run(FakeModel(), run, {"q": "cat", "r": "dog"}, find, strict=True)
    with pytest.raises(UnreadableImage, match="none of the run's 1 images"):
        rerank_run(FakeModel(), run_of(r="gone.jpg"), {"r": "dog"}, find)


def test_a_query_without_text_is_refused(folder: Path) -> None:
    with pytest.raises(Misuse, match=r"query q2 of the run has no text in --queries \(1 of 2 lack one\)"):
        rerank_run(FakeModel(), run_of(q1="a.jpg", q2="a.jpg"), {"q1": "cat"}, DocumentFinder(folder))


def test_documents_are_found_however_they_are_spelt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "50%20off.jpg").write_text("x")
    find = DocumentFinder(folder)
    assert find("a.jpg") == str(folder / "a.jpg")
    assert find("a") == str(folder / "a.jpg")
    assert find(encode_id("b b.jpg")) == str(folder / "b b.jpg")
    assert find("50%20off.jpg") == str(folder / "50%20off.jpg")
    assert find(str(folder / "c.jpg")) == str(folder / "c.jpg")
    assert find("nowhere") == str(folder / "nowhere")
    monkeypatch.chdir(folder)
    assert DocumentFinder(None)("b%20b.jpg") == "b b.jpg"
    assert DocumentFinder(None)("a") == "a"


def test_an_empty_run() -> None:
    assert rerank_run(FakeModel(), {}, {}, DocumentFinder(None)).queries == {}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone: no such folder; --images names where the run's documents are"):
        DocumentFinder(tmp_path / "gone")


def test_an_address_stays_one_and_may_be_of_a_private_network_where_that_is_allowed(folder: Path) -> None:
    for find in (DocumentFinder(folder), DocumentFinder(None)):
        assert find("http://10.0.0.1/a.jpg") == "http://10.0.0.1/a.jpg"
        assert not isinstance(find("http://10.0.0.1/a.jpg"), WebImage)
    assert isinstance(DocumentFinder(folder, allow_private=True)("http://10.0.0.1/a%20b.jpg"), WebImage)
