"""Which index a number of vectors gets, and what the approximate ones find."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from bt_cli.embeddings import index_choice, tuning
from bt_cli.embeddings.embedding_table import vector_array
from bt_cli.embeddings.faiss_index import searched
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.index_choice import Choice, choose_index, list_choice
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.errors import BrokenIndex, Misuse
from bt_cli.store import approximate_index
from bt_cli.store.approximate_index import (
    ApproximateIndex,
    build_approximate,
    check_factory,
    rank_by_vectors,
    try_out,
)
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.manifest import Piece

GIB = 1 << 30
ROWS, DIMENSION = 4000, 16


@pytest.mark.parametrize(
    ("rows", "dimension", "dtype", "memory", "factory"),
    [
        (0, 512, "float16", 16, None),
        (250_000, 512, "float16", 1, None),
        (250_001, 512, "float16", 16, "HNSW32,SQfp16"),
        (500_000, 512, "float32", 16, "HNSW32,Flat"),
        (500_000, 512, "float16", 2.2, "IVF512,SQfp16"),
        (1_000_000, 512, "float16", 16, "IVF1024,SQfp16"),
        (1_000_000, 512, "float16", 3, "IVF1024,SQ8"),
        (1_000_000, 512, "float16", 1.5, "IVF1024,RaBitQ4"),
        (25_000_000, 512, "float32", 1024, "IVF4096,Flat"),
        (100_000_000, 512, "float32", 1024, "IVF8192,RaBitQ4"),
    ],
)
def test_the_rule(rows: int, dimension: int, dtype: str, memory: float, factory: str | None) -> None:
    choice = choose_index(rows, dimension, dtype, memory=int(memory * GIB))
    assert choice.factory == factory
    assert f"{rows:,} x {dimension}" in choice.reason
    if factory:
        faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)


def test_the_experts_choice_is_taken() -> None:
    assert choose_index(10, 8, "float16", factory="HNSW8,Flat") == Choice("HNSW8,Flat", "asked for with --factory")
    assert choose_index(10**9, 512, "float16", factory="Flat").factory is None


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clustered vectors; rows 3000 to 3039 are equal to row 7."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((50, DIMENSION))
    vectors = centres[generator.integers(0, 50, ROWS)] + 0.5 * generator.standard_normal((ROWS, DIMENSION))
    vectors[3000:3040] = vectors[7]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("flat") / "flat.faiss"
    with VectorFileWriter(path, ROWS, DIMENSION, "float16") as writer:
        writer.write(np.arange(ROWS), vectors)
    return path


def opened(flat: Path, tmp_path: Path, factory: str) -> ApproximateIndex:
    choice, search = build_approximate(flat, tmp_path / "index", Choice(factory, ""))
    return ApproximateIndex(tmp_path / "index", Piece(ROWS, "", "", "", kind=factory, search=search))


@pytest.mark.parametrize("factory", ["HNSW8,SQfp16", "IVF32,SQfp16", "IVF32,Flat", "SQfp16"])
def test_what_it_finds_and_in_what_order(flat: Path, tmp_path: Path, factory: str) -> None:
    exact, index = VectorFile(flat), opened(flat, tmp_path, factory)
    queries = exact.rows_of(np.arange(0, ROWS, 57))
    scores, ids = index.search(queries, 10)
    wanted_scores, wanted = exact.search(queries, 10)
    found = np.mean([len(np.intersect1d(mine, theirs)) / 10 for mine, theirs in zip(ids, wanted, strict=True)])
    assert found >= 0.95
    assert index.tuning["recall"] >= 0.97
    same = ids == wanted
    assert np.abs(scores - wanted_scores)[same].max() < 5e-4
    assert np.array_equal(index.search(queries, 5)[1], ids[:, :5])
    # Forty-one equal vectors: the smallest ids come first, however few are asked for.
    assert index.search(exact.rows_of(np.array([7])), 4)[1].tolist() == [[7, 3000, 3001, 3002]]
    # Among given rows the search is exact.
    some = np.arange(5, ROWS, 101)
    assert np.array_equal(index.search(queries, 3, some)[1], exact.search(queries, 3, some)[1])
    assert index.search(queries[:1], 3, np.array([9]))[1].tolist() == [[9]]
    assert np.abs(index.rows_of(np.array([3, 1999])) - exact.rows_of(np.array([3, 1999]))).max() < 1e-6


def test_an_index_that_knows_no_filters(flat: Path, tmp_path: Path) -> None:
    index = opened(flat, tmp_path, "PQ4x4")
    some = np.array([5, 3999])
    assert sorted(index.search(VectorFile(flat).rows_of(some), 5, some)[1][0].tolist()) == [5, 3999]


def test_fewer_found_than_asked_for(flat: Path, tmp_path: Path) -> None:
    index = opened(flat, tmp_path, "IVF32,SQfp16")
    index.tuning = {"nprobe": 1}
    scores, ids = index.search(VectorFile(flat).rows_of(np.array([0])), 2000)
    missing = ids[0] == -1
    assert 0 < missing.sum() < 2000
    assert np.all(scores[0][missing] == -np.inf)
    assert np.all(np.diff(missing.astype(int)) >= 0)


def test_a_graph_that_does_not_reach_the_recall_gives_way_to_lists(
    flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "WANTED_RECALL", 1.01)
    choice, search = build_approximate(flat, tmp_path / "i", Choice("HNSW4,SQfp16", "", fallback=True))
    assert choice.factory == "IVF64,SQfp16"
    assert search["nprobe"] == 64


def test_a_factory_that_faiss_does_not_know(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="--factory nonsense: FAISS knows no such index for 16 dimensions"):
        build_approximate(flat, tmp_path / "i", Choice("nonsense", ""))


def test_too_few_vectors_are_searched_exactly(flat: Path, tmp_path: Path) -> None:
    wanted = Choice(None, "4,000 vectors are too few to train IVF9999,Flat")
    assert build_approximate(flat, tmp_path / "i", Choice("IVF9999,Flat", "")) == (wanted, {})
    with VectorFileWriter(tmp_path / "none", 0, DIMENSION, "float16"):
        pass
    for factory in ("IVF4,Flat", "HNSW8,SQfp16"):
        wanted = Choice(None, f"there are no vectors yet for {factory}")
        assert build_approximate(tmp_path / "none", tmp_path / "i", Choice(factory, "")) == (wanted, {})
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("factory", ["IDMap,Flat", "IVF2,SQ8,RFlat"])
def test_a_factory_that_cannot_be_built_or_searched_here(factory: str) -> None:
    with pytest.raises(Misuse, match=f"--factory {factory}: FAISS knows it but can't .*; leave --factory out"):
        check_factory(factory, DIMENSION)


@pytest.mark.parametrize(
    "factory",
    [
        "IVF65536,SQfp16",
        "HNSW32,Flat",
        "PQ8",
        "IVF4096,PQ4x8",
        "PQ16x4fs",
        "PCA8,IVF4,Flat",
        "HNSW8_PQ4",
        "SQ8",
        "OPQ4_8,PQ4",
    ],
)
def test_a_factory_that_can_be(factory: str, capfd: pytest.CaptureFixture[str]) -> None:
    try_out(factory, DIMENSION)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("IVF0,Flat", "0 is no number of lists, links or codes"),
        ("HNSW00", "00 is no number of lists, links or codes"),
        ("IVF99999999999,Flat", "99999999999 is no number of lists, links or codes"),
        ("HNSW1,Flat", "FAISS knows it but can't build and search it here"),  # it ends the process
        ("nonsense", "FAISS knows no such index for 16 dimensions"),
    ],
)
def test_a_factory_that_would_end_the_process(factory: str, said: str) -> None:
    with pytest.raises(Misuse) as refused:
        check_factory(factory, DIMENSION)
    assert str(refused.value).startswith(f"--factory {factory}: {said}")


def test_a_trial_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate_index, "TRIAL_SECONDS", 0.01)
    with pytest.raises(Misuse, match="can't build and search it here"):
        check_factory("IVF4,Flat", DIMENSION)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(b"rubbish")
    with pytest.raises(BrokenIndex, match=r"/i: FAISS can't read it; .*--rebuild"):
        ApproximateIndex(tmp_path / "i", Piece(1, "", "", "", kind="IVF1,Flat"))


def test_an_index_folder_with_lists(flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_choice, "EXACT_NUMBERS", 1000)
    monkeypatch.setattr(index_choice, "GRAPH_NUMBERS", 1000)
    vectors = VectorFile(flat).rows_of(np.arange(ROWS))
    rows = ImageRows.blank([f"{number:05d}.jpg" for number in range(ROWS)])
    with IndexWriter(tmp_path / ".bt", Identity("tiny", "f", "p", DIMENSION, "float32")) as writer:
        writer.journal.append({**rows.columns(0, ROWS), "embedding": vector_array(vectors, "float16")})
        manifest = writer.commit(rows, np.full(ROWS, -1), np.empty(0, np.int64), roots=["."])
    assert manifest.pieces[0].kind == "IVF64,SQfp16"
    assert {path.name for path in (tmp_path / ".bt").glob("*-*")} == manifest.files()
    assert faiss.read_index(str(tmp_path / ".bt" / (manifest.pieces[0].lists or ""))).ntotal == ROWS
    with IndexFolder.open(tmp_path / ".bt") as index:
        assert index.search(vectors[100:101], 3)[1][0, 0] == 100
        assert np.array_equal(index.vectors_of(np.array([5])), vectors[5:6])


@pytest.mark.parametrize("forced", ["by memory", "by rows"])
def test_four_bits_a_number_and_the_vectors_behind_them_find_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    rows, dimension = 20_000, 64
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((500, dimension))
    vectors = centres[generator.integers(0, 500, rows)] + 0.8 * generator.standard_normal((rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with VectorFileWriter(tmp_path / "flat", rows, dimension, "float16") as writer:
        writer.write(np.arange(rows), vectors)
    if forced == "by rows":
        monkeypatch.setattr(index_choice, "MOST_STORED_ROWS", rows - 1)
    memory = 64 * GIB if forced == "by rows" else rows * dimension
    choice, search = build_approximate(
        tmp_path / "flat", tmp_path / "index", list_choice(rows, dimension, "float16", memory)
    )
    assert choice.factory == "IVF128,RaBitQ4"
    assert search["recall"] >= 0.97
    assert search["nprobe"] < 128  # lists are passed over: the codes are good enough for it
    # Half a byte a number, the row's number and some factors: a quarter of the vectors and 32 bytes at most.
    assert (tmp_path / "index").stat().st_size < rows * (dimension / 2 + 32) + 4 * 128 * dimension + 10_000
    exact = VectorFile(tmp_path / "flat")
    index = ApproximateIndex(tmp_path / "index", Piece(rows, "", "", "", kind=choice.factory, search=search), exact)
    queries = centres[:100] + 0.8 * generator.standard_normal((100, dimension))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    wanted_scores, wanted = exact.search(queries, 10)
    for probes, least in ((search["nprobe"], 0.97), (128, 1.0)):  # with all lists looked at, the codes lose nothing
        index.tuning = {**search, "nprobe": probes}
        scores, found = index.search(queries, 10)
        hits = [len(np.intersect1d(mine, theirs)) / 10 for mine, theirs in zip(found, wanted, strict=True)]
        assert np.mean(hits) >= least
        assert np.array_equal(scores[found == wanted], wanted_scores[found == wanted])


@pytest.mark.parametrize(("factory", "most"), [("IVF16,SQ8", 300), ("IVF16,RaBitQ4", 1024), ("IVF16,PQ16", 1024)])
def test_vectors_are_read_until_no_other_reaches_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, most: int
) -> None:
    rows, dimension = 10_000, 64
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((200, dimension))
    vectors = centres[generator.integers(0, 200, rows)] + 0.8 * generator.standard_normal((rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with VectorFileWriter(tmp_path / "flat", rows, dimension, "float16") as writer:
        writer.write(np.arange(rows), vectors)
    _, search = build_approximate(tmp_path / "flat", tmp_path / "index", Choice(factory, ""))
    flat = VectorFile(tmp_path / "flat")
    index = ApproximateIndex(tmp_path / "index", Piece(rows, "", "", "", kind=factory, search=search), flat)
    read: list[int] = []
    products = flat.products

    def counted(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        read[-1] += len(rows)
        return products(query, rows)

    monkeypatch.setattr(flat, "products", counted)
    queries = centres[:50] + 0.8 * generator.standard_normal((50, dimension))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    for query in queries:
        read.append(0)
        scores, found = index.search(query[None], 128)
        candidates = searched(index.index, query[None], 1024, index.tuning)[1][0]
        exact = products(query, candidates[candidates >= 0])
        order = np.lexsort((candidates[candidates >= 0], -exact))[:128]
        assert found[0].tolist() == candidates[order].tolist()  # what reading all of them finds
        assert scores[0].tolist() == exact[order].tolist()
    assert 128 <= min(read) <= np.mean(read) <= most


def test_fewer_candidates_than_answers_are_all_read(flat: Path) -> None:
    exact = VectorFile(flat)
    query, rows = exact.rows_of(np.array([7]))[0], np.array([9, 7, -1])
    scores = np.array([0.5, 0.4, -np.inf], np.float32)
    rank_by_vectors(exact, query, rows, scores, 10)
    assert scores[:2].tolist() == exact.products(query, rows[:2]).tolist()
    assert scores[2] == -np.inf
