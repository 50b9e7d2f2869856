"""Help in words: what an option takes as people say it, not as the program types it."""

from __future__ import annotations

from typing import Any


def in_plain_words(command: Any) -> Any:
    """Change a click command, and those that it has, so that its help says ranges in words and no types of Python.

    It leans on two methods of typer's own parameters, and leaves the help as it is where a version lacks them.
    """
    for parameter in command.params:
        if hasattr(parameter, "_get_number_range_help_str"):
            parameter._get_number_range_help_str = _range_of(parameter)
        if getattr(parameter, "param_type_name", "") == "argument" and hasattr(parameter, "display_type_rich"):
            parameter.display_type_rich = _no_type
    for inner in getattr(command, "commands", {}).values():
        in_plain_words(inner)
    return command


def range_in_words(least: float | None, most: float | None) -> str | None:
    """`1 or more`, `at most 5`, `0 to 1`; None where there is no bound."""
    if least is None and most is None:
        return None
    if most is None:
        return f"{least:g} or more"
    return f"at most {most:g}" if least is None else f"{least:g} to {most:g}"


def _range_of(parameter: Any) -> Any:
    return lambda: range_in_words(parameter.min, parameter.max)


def _no_type(ctx: Any) -> str:
    """Arguments have names that say what they are."""
    return ""
