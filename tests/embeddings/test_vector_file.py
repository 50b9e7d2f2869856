"""The flat vector file against FAISS itself and against sums computed by hand."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.errors import BrokenIndex

FACTORIES = {"float16": "SQfp16", "float32": "Flat"}


def unit_vectors(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def written(path: Path, vectors: np.ndarray, dtype: str = "float16") -> VectorFile:
    with VectorFileWriter(path, *vectors.shape, dtype) as writer:
        writer.write(np.arange(len(vectors)), vectors)
    return VectorFile(path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_file_is_one_that_faiss_writes(tmp_path: Path, dtype: str) -> None:
    vectors = unit_vectors(300, 24)
    written(tmp_path / "ours", vectors, dtype)
    index = faiss.index_factory(24, FACTORIES[dtype], faiss.METRIC_INNER_PRODUCT)
    index.add(vectors.astype(dtype).astype(np.float32))
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert VectorFile(tmp_path / "theirs").rows == 300


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_search_agrees_with_faiss(tmp_path: Path, dtype: str) -> None:
    file = written(tmp_path / "v", unit_vectors(5000, 96), dtype)
    queries = unit_vectors(20, 96, seed=1)
    scores, ids = file.search(queries, 10)
    expected, expected_ids = faiss.read_index(str(tmp_path / "v")).search(queries, 10)
    assert np.array_equal(ids, expected_ids)
    assert np.abs(scores - expected).max() < 2e-6


def test_rows_may_be_written_in_any_order(tmp_path: Path) -> None:
    vectors = unit_vectors(100, 8)
    order = np.random.default_rng(3).permutation(100)
    with VectorFileWriter(tmp_path / "v", 100, 8, "float32") as writer:
        for part in np.array_split(order, 7):
            writer.write(part, vectors[part])
        assert np.array_equal(writer.read(10, 20), vectors[10:20])
    assert np.array_equal(VectorFile(tmp_path / "v").vectors, vectors)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 60),
    k=st.integers(1, 80),
    less=st.integers(1, 80),
    different=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_equal_scores_come_by_id_and_a_short_answer_begins_a_long_one(
    tmp_path_factory: pytest.TempPathFactory, rows: int, k: int, less: int, different: int, seed: int
) -> None:
    """Few different vectors: nearly every place is contested."""
    choice = np.random.default_rng(seed).integers(0, different, rows)
    vectors = unit_vectors(different, 5, seed)[choice]
    file = written(tmp_path_factory.mktemp("v") / "v", vectors)
    query = unit_vectors(1, 5, seed + 1)
    scores, ids = file.search(query, k)
    exact = (vectors.astype(np.float16).astype(np.float64) @ query[0].astype(np.float64)).tolist()
    groups = {value: max(exact[row] for row in np.flatnonzero(choice == value)) for value in set(choice.tolist())}
    expected = sorted(range(rows), key=lambda row: (-groups[choice[row]], row))[:k]
    assert ids[0].tolist() == expected
    assert file.search(query, less)[1][0].tolist() == ids[0, :less].tolist() or less > k
    assert np.all(np.diff(scores[0]) <= 0)


def test_only_the_rows_asked_for(tmp_path: Path) -> None:
    vectors = unit_vectors(500, 16)
    file = written(tmp_path / "v", vectors, "float32")
    some = np.array([3, 77, 78, 401])
    scores, ids = file.search(vectors[77:78], 10, some)
    assert ids.shape == (1, 4)
    assert ids[0, 0] == 77
    assert sorted(ids[0].tolist()) == some.tolist()
    assert scores[0] == pytest.approx((vectors[ids[0]] @ vectors[77]).tolist(), abs=2e-6)


def test_more_queries_than_fit_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "v", unit_vectors(200, 8))
    queries = unit_vectors(50, 8, seed=2)
    whole = file.search(queries, 3)
    monkeypatch.setattr("bt_cli.embeddings.vector_file.SCORE_ELEMENTS", 1000)
    monkeypatch.setattr("bt_cli.embeddings.vector_file.SCAN_ELEMENTS", 64)
    parts = file.search(queries, 3)
    assert np.array_equal(whole[1], parts[1])
    assert np.abs(whole[0] - parts[0]).max() < 2e-6


def test_a_cosine_stays_within_one(tmp_path: Path) -> None:
    """Float16 makes some vectors longer than 1."""
    vectors = unit_vectors(200, 8)
    scores, _ = written(tmp_path / "v", vectors).search(vectors, 1)
    assert scores.max() <= 1.0


def test_no_rows(tmp_path: Path) -> None:
    file = written(tmp_path / "v", np.zeros((0, 7), np.float32))
    scores, ids = file.search(np.ones((2, 7), np.float32), 5)
    assert scores.shape == ids.shape == (2, 0)
    assert faiss.read_index(str(tmp_path / "v")).ntotal == 0


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"XXXX" + b[4:], lambda b: b""])
def test_a_broken_file_is_named(tmp_path: Path, spoil: object) -> None:
    written(tmp_path / "v", unit_vectors(10, 4))
    (tmp_path / "v").write_bytes(spoil((tmp_path / "v").read_bytes()))  # type: ignore[operator]
    with pytest.raises(BrokenIndex, match=r"/v: .*--rebuild"):
        VectorFile(tmp_path / "v")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_no_numbers_are_refused(tmp_path: Path, dtype: str, value: float) -> None:
    vectors = unit_vectors(20, 8)
    vectors[7, 3] = value
    index = written(tmp_path / "v", vectors, dtype)
    with pytest.raises(BrokenIndex, match=r"/v: damaged vectors; .*--rebuild"):
        index.search(unit_vectors(3, 8), 2)
    assert index.search(unit_vectors(1, 8), 2, np.array([1, 2]))[1].shape == (1, 2)
    with pytest.raises(ValueError, match="finite"):
        index.search(vectors[7:8], 2)
