"""Groups of images that show the same, against a comparison of every pair by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing.fake_encoder import FakeEncoder

from bt_cli.errors import Misuse
from bt_cli.indexing.build import build_index
from bt_cli.search import duplicates
from bt_cli.search.duplicates import find_duplicates, fold_twins
from bt_cli.store.index_folder import IndexFolder


class Drawn(FakeEncoder):
    """An image's embedding is that of the word that it begins with, turned a little by what follows."""

    def _batch(self, numbers, paths, captions=None):
        batch = super()._batch(numbers, paths, captions)
        for row, number in enumerate(batch.numbers):
            word, _, turn = Path(paths[number]).read_text().partition(" ")
            drawn = np.random.default_rng(sum(word.encode())).standard_normal(batch.embeddings.shape[1])
            drawn = drawn / np.linalg.norm(drawn)
            aside = np.random.default_rng(len(turn) + 999).standard_normal(len(drawn)) * (0.05 * len(turn))
            batch.embeddings[row] = (drawn + aside) / np.linalg.norm(drawn + aside)
        return batch


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "photos" / f"{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        words = f"{'abcdefghijklmnop'[draw.integers(16)]} {'x' * int(draw.integers(4))}"
        (folder / f"{number:02}.jpg").write_text(words)
    build_index(".bt", ["photos"], Drawn(), store_dtype="float32")
    return tmp_path


def by_hand(folder: IndexFolder, near: float | None) -> set[frozenset[int]]:
    vectors = folder.vectors_of(np.arange(len(folder)))
    contents = [Path(path).read_bytes() for path in folder.paths(range(len(folder)))]
    sets = {number: {number} for number in range(len(folder))}
    for one, other in itertools.combinations(range(len(folder)), 2):
        if contents[one] == contents[other] or (near is not None and float(vectors[one] @ vectors[other]) >= near):
            joined = sets[one] | sets[other]
            for number in joined:
                sets[number] = joined
    return {frozenset(group) for group in sets.values() if len(group) > 1}


@pytest.mark.parametrize("near", [None, 0.999, 0.98, 0.9, 0.5])
@pytest.mark.parametrize("block", [7, 2048])
def test_groups_are_those_of_every_pair(
    photos: Path, near: float | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    told: list[tuple[int, int]] = []
    with IndexFolder.open(".bt") as folder:
        groups = find_duplicates(folder, near, progress=lambda *at: told.append(at))
        assert {frozenset(copy.id for copy in group.images) for group in groups} == by_hand(folder, near)
    assert groups
    assert told == [] if near is None else told[-1] == (60, 60)
    for group in groups:
        contents = {Path(copy.path).read_bytes() for copy in group.images}
        assert group.equal is (len(contents) == 1)
        order = [(-copy.width * copy.height, -copy.size, copy.mtime) for copy in group.images]
        assert order == sorted(order)
        assert group.images[0].cosine == pytest.approx(1, abs=1e-6)
    assert [group.spare_bytes for group in groups] == sorted((g.spare_bytes for g in groups), reverse=True)


@pytest.mark.parametrize("near", [0.0, -1.0, 1.5, float("nan")])
def test_a_cosine_that_is_none(photos: Path, near: float) -> None:
    with IndexFolder.open(".bt") as folder, pytest.raises(Misuse, match="a cosine above 0 and at most 1 is needed"):
        find_duplicates(folder, near)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), near=st.sampled_from([0.5, 0.9, 0.98]))
def test_folding_keeps_the_first_of_each_and_no_twin(seed: int, near: float) -> None:
    draw = np.random.default_rng(seed)
    kinds = draw.standard_normal((5, 8))
    vectors = (kinds[draw.integers(5, size=30)] + 0.1 * draw.standard_normal((30, 8))).astype(np.float32)
    kept = fold_twins(vectors, near)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert kept[0] == 0
    for row in range(30):
        earlier = [other for other in kept if other < row]
        is_twin = any(float(unit[row] @ unit[other]) >= near for other in earlier)
        assert (row in kept) is not is_twin
