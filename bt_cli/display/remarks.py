"""Remarks: the lines that bt says on stderr beside its data, each one beginning with `bt: `.

The floors below speak through `warnings` and the `bt_cli` logger; :func:`listen` brings both here. `--quiet` silences
remarks; errors (:func:`complain`) are always said.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from bt_cli.display.safe_text import printable

PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep

_quiet = False
"""The process has one stderr, so it has one answer to whether remarks are wanted there."""


_bar: Any = None
"""The progress bar that stands on the last line, if any: a remark goes above it."""


def set_quiet(quiet: bool) -> None:
    """Silence remarks and progress bars for this process, or let them speak again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether remarks and progress bars are silenced."""
    return _quiet


def set_bar(bar: Any) -> None:
    """Tell remarks which tqdm bar is on screen (None: no more)."""
    global _bar
    _bar = bar


def debugging() -> bool:
    """Whether the user asked for tracebacks and the remarks of other libraries with BT_DEBUG=1."""
    return os.environ.get("BT_DEBUG", "") not in ("", "0")


_overheard: ContextVar[list[str] | None] = ContextVar("overheard", default=None)


@contextlib.contextmanager
def overheard() -> Iterator[list[str]]:
    """Within the block this thread's remarks come into a list, for whoever asked, and not on stderr."""
    lines: list[str] = []
    outer = _overheard.set(lines)
    try:
        yield lines
    finally:
        _overheard.reset(outer)


def remark(message: str) -> None:
    """Say one line on stderr, unless `--quiet`."""
    lines = _overheard.get()
    if lines is not None:
        lines.append(message)
    elif not _quiet:
        complain(message)


def complain(message: str) -> None:
    """Say one line on stderr, whatever `--quiet` says: the form of every error."""
    if _bar is not None:
        _bar.clear()
    # Where stderr is closed there is nobody left to tell.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"bt: {printable(message.strip())}", file=sys.stderr, flush=True)
    if _bar is not None:
        _bar.refresh()


class RemarkHandler(logging.Handler):
    """Turns what the `bt_cli` logger gets into remarks."""

    def emit(self, record: logging.LogRecord) -> None:
        remark(record.getMessage())


def listen() -> None:
    """From now on, show the package's warnings and log lines as remarks, and no other library's unless debugging."""
    logger = logging.getLogger("bt_cli")
    if not any(isinstance(handler, RemarkHandler) for handler in logger.handlers):
        logger.addHandler(RemarkHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # "always": a remark about the second file must not be swallowed because the first file's came from the same line.
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = filename.startswith(PACKAGE) and issubclass(category, UserWarning)
    if ours:
        remark(str(message))
    elif debugging():
        remark(f"{filename}:{lineno}: {category.__name__}: {message}")
