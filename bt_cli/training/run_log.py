"""What a run says of itself: one JSON object a line, for every logged step and every validation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path

LOG_FILE = "log.jsonl"


class RunLog:
    """Appends to log.jsonl. A resumed run drops the lines after the step from which it goes on."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG_FILE
        kept = [line for line in read_log(self.path) if line["step"] <= step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, **values: Any) -> None:
        """One line; numbers are rounded to six digits."""
        rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in values.items()}
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Make sure it is on disk."""
        os.fsync(self.file.fileno())
        self.file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a last line that a kill cut short is left out.

    Raises BadConfig, with the line's number, for a log that is damaged elsewhere.
    """
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                values = json.loads(line)
                if not isinstance(values["step"], int):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                if not line.endswith("\n"):
                    return
                raise BadConfig(
                    f"{shown_path(path)}:{number}: the log is damaged; remove it, the run goes on without it"
                ) from None
            yield values
