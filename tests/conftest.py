"""Every test gets a home of its own: nothing here reads or writes the user's folders, caches or network."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from bt_cli.scenes.sprites import SpriteSheet

# A loaded machine is no failure: no example has a time limit.
settings.register_profile("bt", deadline=None)
settings.load_profile("bt")

REFERENCE = Path(__file__).resolve().parent / "reference"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a shell, which has such programs ignore Ctrl-C, as do those that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hub configs, RoBERTa tables, and what the authors' code recorded; see reference/README.md."""
    from reference.recorded_checkpoint import write_checkpoint

    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(REFERENCE / "hub_configs", folder / "hub_configs")
    shutil.copytree(REFERENCE / "original", folder / "original")
    write_checkpoint(REFERENCE / "original" / "A_full.json", folder / "original" / "A_full.ckpt")
    (folder / "roberta").mkdir()
    for packed in (REFERENCE / "roberta").glob("*.gz"):
        (folder / "roberta" / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@dataclass(frozen=True)
class Ran:
    """What a command left behind: exit code, stdout as bytes and text, stderr."""

    code: int
    out_bytes: bytes
    err: str

    @property
    def out(self) -> str:
        return self.out_bytes.decode("utf-8", "surrogateescape")

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects of a `--json` run."""
        return [json.loads(line) for line in self.out_bytes.splitlines()]


@pytest.fixture
def bt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command in this process: `bt("search", "a cat", "--json", stdin=b"...")`; no terminal anywhere."""
    from bt_cli.commands.app import main

    def run(*arguments: str | os.PathLike[str], stdin: bytes | None = None) -> Ran:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "stdin", None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setenv("COLUMNS", "100")
            code = main([os.fspath(argument) for argument in arguments])
            out.flush()
            err.flush()
        return Ran(code, out.buffer.getvalue(), err.buffer.getvalue().decode())

    return run


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of random weights with every head (see random_checkpoint.py). Read it, never write to it."""
    from random_checkpoint import random_checkpoint

    return random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "random")


@pytest.fixture(scope="session")
def sheet() -> SpriteSheet:
    """The sprites of all things; skips where the emoji font is not installed."""
    from bt_cli.errors import NotFound
    from bt_cli.scenes.sprites import SpriteSheet

    try:
        return SpriteSheet.load()
    except NotFound as error:
        pytest.skip(str(error))
