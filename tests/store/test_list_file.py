"""Lists that are written block by block: byte for byte FAISS's own file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from bt_cli.embeddings.index_choice import Choice
from bt_cli.embeddings.vector_file import VectorFile, VectorFileWriter
from bt_cli.files.block_sums import BlockSums
from bt_cli.store import approximate_index, list_file
from bt_cli.store.approximate_index import build_approximate
from bt_cli.store.list_file import ListSource, can_write, write_lists
from bt_cli.store.manifest import Piece

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


def write_flat(path: Path, vectors: np.ndarray) -> Path:
    with VectorFileWriter(path, len(vectors), DIMENSION, "float16") as writer:
        writer.write(np.arange(len(vectors)), vectors)
    return path


def piece_of(path: Path, vectors: np.ndarray, kind: str, before: list[ListSource] | None = None) -> ListSource:
    """The lists over some vectors, as a piece of an index that stands; none of its rows is wanted."""
    choice, search = build_approximate(
        write_flat(path.with_suffix(".flat"), vectors), path, Choice(kind, ""), before or []
    )
    entry = Piece(len(vectors), "", "", "", kind=choice.factory or "", search=search)
    with open(path, "rb") as file:
        return ListSource(path, entry, BlockSums.of(file), np.full(len(vectors), -1))


@pytest.mark.parametrize("kind", ["IVF16,SQfp16", "IVF16,SQ8", "IVF16,RaBitQ4", "RR32,IVF16,SQ8", "IVF16,Flat"])
def test_pieces_share_a_quantizer_and_merging_copies(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((ROWS, DIMENSION)).astype(np.float32)
    one = piece_of(tmp_path / "lists-000003.faiss", vectors[:3000], kind)
    two = piece_of(tmp_path / "lists-000005.faiss", vectors[3000:4500], kind.replace("16,", "8,"), [one])
    assert (one.entry.search["trained"], one.entry.search["quantizer"]) == (3000, 3)
    assert (two.entry.kind, two.entry.search["trained"], two.entry.search["quantizer"]) == (kind, 3000, 3)
    # Merged in another order, some rows gone and some new; what is copied need not be at hand as a vector.
    order = generator.permutation(ROWS)[:4000]
    row_of = np.full(ROWS, -1)
    row_of[order] = np.arange(4000)
    before = [replace(one, rows=row_of[:3000]), replace(two, rows=row_of[3000:4500])]
    merged = piece_of(tmp_path / "lists-000007.faiss", vectors[order], kind, before)
    whole = one.emptied()
    whole.add(vectors[order].astype(np.float16).astype(np.float32))
    faiss.write_index(whole, str(tmp_path / "whole"))
    if not kind.startswith("RR"):  # whose last bits depend on how many are turned at once
        assert merged.path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert (merged.entry.search["trained"], merged.entry.search["quantizer"]) == (3000, 3)
    blank = np.where((order < 4500)[:, None], 0, vectors[order])
    piece_of(tmp_path / "lists-000009.faiss", blank, kind, before)
    assert (tmp_path / "lists-000009.faiss").read_bytes() == merged.path.read_bytes()


def test_when_lists_are_trained_anew(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    small = piece_of(tmp_path / "lists-000001.faiss", vectors[:1250], "IVF16,SQfp16")
    assert piece_of(tmp_path / "lists-000002.faiss", vectors, "IVF64,SQfp16", [small]).quantizer == 1
    smaller = piece_of(tmp_path / "lists-000003.faiss", vectors[:1249], "IVF16,SQfp16")
    grown = piece_of(tmp_path / "lists-000004.faiss", vectors, "IVF64,SQfp16", [smaller])
    assert (grown.entry.kind, grown.trained, grown.quantizer) == ("IVF64,SQfp16", ROWS, 4)
    assert piece_of(tmp_path / "lists-000005.faiss", vectors, "IVF64,SQ8", [small]).quantizer == 5
    packed = piece_of(tmp_path / "lists-000008.faiss", vectors, "IVF8,PQ8x4fs")
    assert piece_of(tmp_path / "lists-000009.faiss", vectors, "IVF8,PQ8x4fs", [packed]).quantizer == 9
    content = bytearray(small.path.read_bytes())
    content[1000] ^= 1
    small.path.write_bytes(content)
    assert piece_of(tmp_path / "lists-000006.faiss", vectors, "IVF64,SQfp16", [small]).quantizer == 6
    small.path.unlink()
    assert piece_of(tmp_path / "lists-000007.faiss", vectors, "IVF64,SQfp16", [small]).quantizer == 7


def test_lists_of_an_older_index_count_as_trained_on_all_its_rows(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)
    old = piece_of(tmp_path / "lists-000004.faiss", vectors[:2000], "IVF16,SQfp16")
    probes = {"nprobe": old.entry.search["nprobe"]}
    old = replace(old, entry=replace(old.entry, search=probes))
    new = piece_of(tmp_path / "lists-000006.faiss", vectors, "IVF16,SQfp16", [old])
    assert (new.trained, new.quantizer) == (2000, 4)
