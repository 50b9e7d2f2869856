"""Every test gets a home of its own: nothing here reads or writes the user's folders, caches or network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh HOME and hub cache, offline, with no BT_* variable left from the outside; returns the home."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(("BT_", "HF_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    return home


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference data (hub configs, RoBERTa tables, recorded outputs); skips where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("no reference data beside the project")
    return REFERENCE
