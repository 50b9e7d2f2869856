"""Every public name of the port's models has its row in `port_table`: a release that adds one fails here."""

from __future__ import annotations

import inspect

import port_models
import pytest
from pretrained import port_table as table
from torch import nn

import bt_cli

transformers = pytest.importorskip("transformers")

METHODS = ("from_pretrained", "save_pretrained", "resize_token_embeddings", "forward")


def arguments(function: object) -> list[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind not in kinds and each.name not in ("self", "cls")]


def names_of(face: type) -> set[str]:
    names = {name for name in dir(face) if not name.startswith("_")} - set(dir(nn.Module))
    return names | {f"{method}({each})" for method in METHODS for each in arguments(getattr(face, method))}


@pytest.mark.parametrize("name", port_models.CLASSES)
def test_the_table_has_every_name_of_the_port_and_no_other(name: str) -> None:
    port, rows = names_of(getattr(transformers, name)), set(table.FACES[name])
    assert sorted(port - rows) == [], "new in the port: decide, and add a row to port_table.py"
    assert sorted(rows - port) == [], "gone from the port: drop the row from port_table.py"


@pytest.mark.parametrize("name", port_models.CLASSES)
def test_the_table_is_true_of_ours(name: str) -> None:
    ours = names_of(getattr(bt_cli, name))
    for row, (verdict, why) in table.FACES[name].items():
        assert (row in ours) == (verdict != "left out"), row
        assert bool(why) == (verdict != "same"), row


@pytest.mark.parametrize("name", port_models.CLASSES)
def test_arguments_stand_in_the_ports_order(name: str) -> None:
    for method in METHODS:
        if method == "from_pretrained":
            continue  # all but the first by keyword
        port = arguments(getattr(getattr(transformers, name), method))
        taken = [each for each in port if table.FACES[name][f"{method}({each})"][0] != "left out"]
        assert arguments(getattr(getattr(bt_cli, name), method))[: len(taken)] == taken
