"""Several indexes as one: the answers of an index that holds all their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from indexing.fake_encoder import DIMENSION, FakeEncoder

from bt_cli.captions.captions import Caption
from bt_cli.errors import IndexMismatch
from bt_cli.indexing.build import build_index
from bt_cli.search.nearest import matching_images, search_captions, search_images
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.index_set import IndexSet


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in "abc":
        (tmp_path / folder).mkdir()
        for number in range(9):
            # Two of each folder are the same in all: their scores are equal.
            text = f"{folder}{number}" if number > 1 else f"same{number}"
            (tmp_path / folder / f"{number}.jpg").write_bytes(text.encode())
        captions = [Caption(f"{folder} number {number}", f"{folder}/{number}.jpg") for number in range(0, 9, 2)]
        build_index(folder + ".index", [folder], FakeEncoder(), captions=[("captions", captions)])
    everything = [
        Caption(f"{folder} number {number}", f"{folder}/{number}.jpg") for folder in "abc" for number in range(0, 9, 2)
    ]
    build_index("whole", ["a", "b", "c"], FakeEncoder(), captions=[("captions", everything)])
    return tmp_path


def test_the_answers_are_those_of_one_index(home: Path) -> None:
    generator = np.random.default_rng(1)
    with IndexFolder.open("whole") as whole, IndexSet.open([home / f"{name}.index" for name in "abc"]) as several:
        assert len(several) == len(whole) == 27
        ids = np.array([26, 0, 9, 8, 13])
        np.testing.assert_array_equal(several.vectors_of(ids), whole.vectors_of(ids))
        for query in [*generator.standard_normal((20, DIMENSION)).astype(np.float32), *whole.vectors_of(np.arange(2))]:
            query /= np.linalg.norm(query)
            for k, globs in ((1, ()), (5, ()), (100, ()), (7, ("b/*",)), (7, ("!3.jpg",))):
                ours = search_images(several, query, k, ids=matching_images(several, globs))
                assert ours == search_images(whole, query, k, ids=matching_images(whole, globs))
                assert several.captions is not None
                assert whole.captions is not None
                theirs = search_captions(whole.captions, whole, query, k, ids=matching_images(whole, globs))
                assert (
                    search_captions(several.captions, several, query, k, ids=matching_images(several, globs)) == theirs
                )


def test_other_checkpoints_are_refused_by_name(home: Path) -> None:
    build_index("other", ["a"], FakeEncoder(fingerprint="e" * 64, name="another"))
    with pytest.raises(IndexMismatch, match=r"other: made by checkpoint another, not fake"):
        IndexSet.open([home / "a.index", home / "other"])
