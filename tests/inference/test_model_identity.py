"""What a model makes embeddings as."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import DIMENSION, FakeCheckpoint, FakeModel

from bt_cli.embeddings.identity import Identity
from bt_cli.inference.model_identity import identity_of


def test_a_name_stays_and_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "tiny", "owner/name"):
        (tmp_path / folder).mkdir(parents=True)

    def name_of(name: str) -> str:
        return identity_of(FakeModel(FakeCheckpoint(name, {"itc"}))).checkpoint

    assert name_of("BridgeTower/bridgetower-base") == "BridgeTower/bridgetower-base"
    assert name_of("tiny") == "tiny"  # the bundled one, whatever stands here
    assert name_of("mine") == str(tmp_path / "mine")
    assert name_of("./mine") == str(tmp_path / "mine")
    assert name_of("owner/name") == str(tmp_path / "owner" / "name")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert name_of("~/mine") == str(tmp_path / "mine")


def test_the_identity_is_what_indexes_compare() -> None:
    assert identity_of(FakeModel(FakeCheckpoint("m", {"itc"}))) == Identity(
        "m", "fingerprint of m", "pixels", DIMENSION, "float32"
    )
