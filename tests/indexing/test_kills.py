"""A slice of the kills of `indexing.kills`, whose two hundred take some minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from indexing.kills import BATCH, OPERATIONS, with_small_pieces

from bt_cli.embeddings import index_choice
from bt_cli.store import index_writer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def test_killed_updates_merges_and_compactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (index_writer, "SMALL_PIECE"),
        (index_writer, "MOST_PIECES"),
        (index_choice, "EXACT_NUMBERS"),
        (index_choice, "GRAPH_NUMBERS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back at the end
    work = with_small_pieces(tmp_path, seed=3)
    work.kill(6)
    counts = work.counts
    assert {operation: counts[operation] for operation in OPERATIONS} == dict.fromkeys(OPERATIONS, 2)
    assert counts["old"] + counts["new"] == 6
    assert counts["encoded again"] <= 6 * BATCH
