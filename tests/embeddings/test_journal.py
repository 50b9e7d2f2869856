"""The journal of a run that was stopped: what is whole in it is kept, whatever its end looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bt_cli.embeddings.embedding_table import image_schema, vector_array
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.embeddings.journal import Journal

IDENTITY = Identity("tiny", "f", "p", 4, "float32")


def journal(folder: Path, identity: Identity = IDENTITY, dtype: str = "float16") -> Journal:
    return Journal(folder / "journal", image_schema(identity, dtype))


def append(kept: Journal, *names: str) -> None:
    rows = ImageRows.blank(list(names))
    kept.append({**rows.columns(0, len(rows)), "embedding": vector_array(np.ones((len(rows), 4)), "float16")})


def names(kept: Journal) -> list[list[str]]:
    return [batch.column("path").to_pylist() for batch in kept.batches()]


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A segment of three batches, its writer gone without closing it."""
    kept = journal(tmp_path)
    for name in "abc":
        append(kept, name, name + name)
    return tmp_path / "journal" / "000001.arrows"


def test_batches_are_there_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    assert names(kept) == []
    append(kept, "a", "b")
    assert names(journal(tmp_path)) == [["a", "b"]]


def test_each_run_writes_a_segment_of_its_own(tmp_path: Path, segment: Path) -> None:
    append(journal(tmp_path), "d")
    assert names(journal(tmp_path)) == [["a", "aa"], ["b", "bb"], ["c", "cc"], ["d"]]
    journal(tmp_path).clear()
    assert not (tmp_path / "journal").exists()


def test_a_torn_end_loses_the_torn_batch_alone(tmp_path: Path, segment: Path) -> None:
    content = segment.read_bytes()
    found = set()
    for length in range(len(content), 0, -7):
        segment.write_bytes(content[:length])
        batches = names(journal(tmp_path))
        assert batches == [["a", "aa"], ["b", "bb"], ["c", "cc"]][: len(batches)]
        found.add(len(batches))
    assert found == {0, 1, 2, 3}


def test_a_batch_with_a_flipped_bit_and_those_behind_it_are_not_taken(tmp_path: Path, segment: Path) -> None:
    content = bytearray(segment.read_bytes())
    place = content.index(np.ones(8, np.float16).tobytes(), content.index(b"bb"))
    content[place] ^= 1
    segment.write_bytes(content)
    assert names(journal(tmp_path)) == [["a", "aa"]]


def test_what_something_else_made_is_not_taken(tmp_path: Path, segment: Path) -> None:
    assert names(journal(tmp_path, dtype="float32")) == []
    assert names(journal(tmp_path, Identity("tiny", "g", "p", 4, "float32"))) == []
    assert names(journal(tmp_path, Identity("tiny", "f", "q", 4, "float32"))) == []
    assert len(names(journal(tmp_path, Identity("the same by another name", "f", "p", 4, "bfloat16")))) == 3
