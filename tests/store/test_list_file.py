"""Lists that are written block by block: byte for byte FAISS's own file."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from bt_cli.store import approximate_index, list_file
from bt_cli.store.approximate_index import build_approximate
from bt_cli.store.index_choice import Choice
from bt_cli.store.list_file import can_write, write_lists
from bt_cli.store.vector_file import VectorFile, VectorFileWriter

ROWS, DIMENSION = 5000, 32


@pytest.mark.parametrize(
    "factory",
    ["IVF16,Flat", "IVF16,SQfp16", "IVF16,SQ8", "IVF16,RaBitQ4", "IVF16,RaBitQ", "RR32,IVF16,SQ8", "IVF64,PQ8x4np"],
)
def test_the_file_is_that_of_an_index_in_memory(tmp_path: Path, factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_file, "BLOCK", 777)
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with VectorFileWriter(tmp_path / "flat", ROWS, DIMENSION, "float16") as writer:
        writer.write(np.arange(ROWS), vectors)
    flat = VectorFile(tmp_path / "flat")
    index = faiss.index_factory(DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    assert can_write(index)
    write_lists(index, flat, tmp_path / "blocks")
    index.add(np.asarray(flat.vectors, np.float32))
    faiss.write_index(index, str(tmp_path / "memory"))
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "memory").read_bytes()


def test_forms_that_pack_codes_together_are_left_to_memory() -> None:
    index = faiss.index_factory(DIMENSION, "IVF16,PQ8x4fs", faiss.METRIC_INNER_PRODUCT)
    assert not can_write(index)


def test_large_lists_are_written_so_and_found_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    with VectorFileWriter(tmp_path / "flat", ROWS, DIMENSION, "float16") as writer:
        writer.write(np.arange(ROWS), vectors)
    choice = Choice("IVF16,SQfp16", "asked for")
    in_memory = build_approximate(tmp_path / "flat", tmp_path / "memory", choice)
    monkeypatch.setattr(approximate_index, "LISTS_IN_MEMORY", 0)
    assert build_approximate(tmp_path / "flat", tmp_path / "blocks", choice) == in_memory
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "memory").read_bytes()
