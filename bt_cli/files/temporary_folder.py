"""Temporary folders that don't outlive their process for long: what a killed one left goes when another is made."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bt_cli.files.unfinished import locked_folder, sweep_parts

NAME = "bt"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder (`.bt.XXXXXXXX.part`) where the system keeps such, for as long as the block lasts.

    It is locked for that time (`unfinished`), so that those of living processes are told from those that a killed
    process left, which are removed first.
    """
    above = Path(tempfile.gettempdir())
    sweep_parts(above, NAME)
    folder = Path(tempfile.mkdtemp(prefix=f".{NAME}.", suffix=".part", dir=above))
    try:
        with locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
