"""Values as they are typed: an empty name is none, and a number that is none is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer

from bt_cli.arguments.help_words import range_in_words

PLACES = {"FILE", "DIR", "FOLDER", "OUT", "IMAGE", "IMAGES", "CAPTIONS", "SHARD", "CONFIG.json", "X.parquet", "PATH"}
PLACES |= {"URL", "ADDRESS", "ID"}
"""Words for something that has a name, as they stand in the help."""
OWN_WORDS = {"QUERY", "TEXT", "TEXT...", "A,B,..."}
"""Those of values that may be texts as well; their commands say what is wrong with an empty one."""


def with_checked_values(command: Any) -> Any:
    """Change a click command, and those that it has, so that its parameters refuse empty names and name bad numbers.

    `Path` takes an empty name for the working directory, which nobody means who writes `--out "$DIR"` with DIR unset.
    """
    for parameter in command.params:
        parameter.process_value = _checked(parameter, parameter.process_value)
    for inner in getattr(command, "commands", {}).values():
        with_checked_values(inner)
    return command


def words_of(metavar: str | None) -> set[str]:
    """The words that the help has for a value: `{"TEXT", "FILE"}` of `TEXT|FILE`."""
    return set(re.split(r"[|\s]+", metavar or ""))


def names_a_place(metavar: str | None) -> bool:
    """Whether a value of this word in the help is the name of something, and never a text."""
    words = words_of(metavar)
    return bool(words & PLACES) and not words & OWN_WORDS


def _checked(parameter: Any, process: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    named = names_a_place(parameter.metavar) and parameter.name != "index"  # which says more than this would

    def process_value(ctx: Any, value: Any) -> Any:
        if named and (value == "" or (isinstance(value, (list, tuple)) and "" in value)):
            raise typer.BadParameter("the name is empty", ctx=ctx, param=parameter)
        try:
            return process(ctx, value)
        except typer.BadParameter as error:
            error.message = _in_plain_words(error.message, parameter, value)
            raise

    return process_value


def _in_plain_words(message: str, parameter: Any, value: Any) -> str:
    """What is wrong with a number, instead of the parser's own words, which leave the number out."""
    if not message.startswith("Input should be"):
        return message.removeprefix("Value error, ")
    shown = range_in_words(getattr(parameter, "min", None), getattr(parameter, "max", None))
    kind = "whole number" if "integer" in message else "number"
    if "valid" in message:
        return f"{value!r} is no {kind}" + (f" of {shown}" if shown and shown.endswith("or more") else "")
    return f"{value} is out of range: {shown}"
