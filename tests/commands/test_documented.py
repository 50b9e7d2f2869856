"""docs/commands.md and the commands say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bt_cli.commands.app import COMMANDS, load_command

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
COMMON = "What all commands have in common"


def sections() -> dict[str, str]:
    """Heading -> text of each part of the document."""
    parts = re.split(r"^## (?:bt )?(.+)\n", DOCUMENT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("command", ["search", "rerank", "score", "fill-mask"])
def test_every_option_is_documented_and_every_documented_option_exists(command: str) -> None:
    text = sections()[command]
    known = {name for parameter in load_command(command).params for name in parameter.opts if name.startswith("--")}
    known -= {"--help"}
    common = set(re.findall(r"--[a-z][a-z-]*", sections()[COMMON]))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert known - named - common - {"--top", "--null"} == set()
    elsewhere = {"--print0"}
    others = {n for name in COMMANDS if name != command for n in re.findall(rf"bt {name} [^`|]*?(--[a-z-]+)", text)}
    assert named - known - others - elsewhere == set()


def test_every_environment_variable_of_the_options_is_documented() -> None:
    variables = {
        parameter.envvar
        for command in ("search", "rerank", "score", "fill-mask")
        for parameter in load_command(command).params
        if parameter.envvar
    }
    assert variables == {"BT_MODEL", "BT_RERANKER", "BT_DEVICE", "BT_DTYPE", "BT_INDEX", "BT_SERVER"}
    assert all(f"`{name}`" in sections()[COMMON] for name in variables)
