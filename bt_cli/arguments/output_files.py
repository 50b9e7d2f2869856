"""Files that a command writes: none of them in another's place, nor over one that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from bt_cli.arguments.given_values import words_of
from bt_cli.errors import Misuse
from bt_cli.files.shown_path import shown_path

OUTPUTS = {"output", "html", "heatmap"}
"""Parameters that name a file to write; so do those that end in `_out`."""


def with_files_apart(command: Any) -> Any:
    """Change a click command, and those that it has, so that no file it writes is another one of its own.

    `--run-out x --qrels-out x` would leave one of the two, and `eval captions.csv --html captions.csv` no captions.
    """
    for inner in getattr(command, "commands", {}).values():
        with_files_apart(inner)
    if not hasattr(command, "commands"):
        invoke = command.invoke

        def invoke_apart(ctx: Any) -> Any:
            _keep_apart(command, ctx.params)
            return invoke(ctx)

        command.invoke = invoke_apart
    return command


def _keep_apart(command: Any, values: dict[str, Any]) -> None:
    """Raises Misuse, with both parameters' names and the file."""
    taken: dict[str, str] = {}
    written: list[tuple[str, str]] = []
    for parameter in command.params:
        if _is_output(parameter.name):
            for name in _files(values.get(parameter.name)):
                written.append((parameter.opts[0], name))
        elif words_of(parameter.metavar) & {"FILE", "CAPTIONS", "IMAGE", "IMAGES", "DIR", "SHARD", "CONFIG.json"}:
            for name in _files(values.get(parameter.name)):
                if os.path.isfile(name):
                    taken.setdefault(os.path.realpath(name), _shown(parameter))
    for option, name in written:
        place = os.path.realpath(name)
        if os.path.exists(place) and not os.path.isfile(place):
            continue  # a pipe, a device or a folder takes several
        other = taken.setdefault(place, option)
        if other is not option:
            raise Misuse(f"{shown_path(name)} is named by {other} and {option}; one would be lost, name another file")


def _is_output(name: str | None) -> bool:
    return name is not None and (name in OUTPUTS or name.endswith("_out"))


def _files(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(each, (str, os.PathLike)) and os.fspath(each) not in ("", "-"):
            yield os.fspath(each)


def _shown(parameter: Any) -> str:
    """An option by its name, an argument by what the help calls it."""
    option = parameter.opts[0]
    return option if option.startswith("-") else str(parameter.metavar)
