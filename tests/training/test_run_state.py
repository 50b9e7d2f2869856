"""A run's files that are damaged: one line that names the file and the way out; never other weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bt_cli.errors import BadConfig
from bt_cli.training.optimizer import MasterWeights
from bt_cli.training.recipe import Rates, Recipe
from bt_cli.training.run_state import STATE_FILE, Position, load_state, read_log, save_state

RECIPE = Recipe.from_dict({"stages": [{"steps": 4}]}).for_width(64)


def master_weights() -> MasterWeights:
    return MasterWeights(torch.nn.Linear(3, 2), torch.float32, Rates(learning_rate=0.1))  # type: ignore[arg-type]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    save_state(tmp_path, RECIPE, Position(step=2), master_weights(), "nothing")
    return tmp_path / STATE_FILE


def test_every_flipped_byte_is_noticed_and_named(state: Path) -> None:
    whole = state.read_bytes()
    assert load_state(state.parent, RECIPE, master_weights(), "nothing") == Position(step=2)
    for place in range(0, len(whole), 7):
        state.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        said = refusal(state)
        if said is not None:  # None: white space that fills the header
            assert said.startswith(f"{state}: ")
            assert "choose another --out, or remove" in said
            assert "\n" not in said


def refusal(state: Path) -> str | None:
    """Why a state is refused; one that is taken up is the whole one."""
    try:
        position = load_state(state.parent, RECIPE, master_weights(), "nothing")
    except BadConfig as error:
        return str(error)
    assert position == Position(step=2)
    return None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100])
def test_what_is_no_state_is_named(state: Path, content: bytes) -> None:
    state.write_bytes(content)
    with pytest.raises(BadConfig, match="the run's state is damaged .*; choose another --out, or remove"):
        load_state(state.parent, RECIPE, master_weights(), "nothing")


def test_a_state_that_says_nothing_of_its_run_is_damaged(state: Path) -> None:
    save_file(load_file(state), state)
    with pytest.raises(BadConfig, match="the run's state is damaged"):
        load_state(state.parent, RECIPE, master_weights(), "nothing")


@pytest.mark.parametrize("line", ["not json", "[1]", "{}", '{"step": "one"}', "\xff"])
def test_a_damaged_line_of_the_log_is_named(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n' + line + '\n{"step": 2}\n', encoding="latin-1")
    with pytest.raises(BadConfig) as error:
        list(read_log(log))
    assert str(error.value) == f"{log}:2: the log is damaged; remove it, the run goes on without it"
    log.write_text('{"step": 1}\n{"ste')
    assert list(read_log(log)) == [{"step": 1}]
