"""Every public name of the port's classes has its row in `port_table`: a release that adds one fails here.

Which names count: what `dir` shows of a class without an underscore ahead (its own and all inherited), the fields of
the configurations, `__call__`, the options of the image processor and the tokenizer, and the arguments of the methods
that the documentation shows.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from pretrained import port_table as table

import bt_cli

transformers = pytest.importorskip("transformers")

DOCUMENTED = ("from_pretrained", "save_pretrained", "from_dict", "to_json_string", "to_json_file", "preprocess")
CLASSES = tuple(name for name in table.FACES if name.endswith(("Config", "ImageProcessorPil", "Processor")))


def arguments(function: Any) -> list[str]:
    """The named arguments of a method, without `self`."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind not in kinds and each.name not in ("self", "cls")]


def port_names(name: str) -> set[str]:
    """All public names of one of the port's classes."""
    face = getattr(transformers, name)
    names = {each for each in dir(face) if not each.startswith("_")}
    if dataclasses.is_dataclass(face):
        names |= {field.name for field in dataclasses.fields(face)}
    else:
        names |= {"__call__", *(f"__call__({each})" for each in arguments(face.__call__))}
    names |= {
        f"{method}({each})"
        for method in DOCUMENTED
        if hasattr(face, method)
        for each in arguments(getattr(face, method))
    }
    if name == "BridgeTowerImageProcessorPil":
        names |= set(face.valid_kwargs.__annotations__)
    if name == "BridgeTowerProcessor":
        kwargs = face.valid_processor_kwargs.__annotations__
        names |= set(kwargs) | set(arguments(face.__init__))
        names |= {f"text_kwargs({each})" for each in kwargs["text_kwargs"].__annotations__}
    return names


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    """An object of each of our classes, as constructed or loaded without arguments."""
    made = {name: getattr(bt_cli, name)() for name in CLASSES if name != "BridgeTowerProcessor"}
    return {**made, "BridgeTowerProcessor": bt_cli.BridgeTowerProcessor.from_pretrained("tiny")}


@pytest.mark.parametrize("name", CLASSES)
def test_the_table_has_every_name_of_the_port_and_no_other(name: str) -> None:
    port, rows = port_names(name), set(table.FACES[name])
    assert sorted(port - rows) == [], "new in the port: decide, and add a row to port_table.py"
    assert sorted(rows - port) == [], "gone from the port: drop the row from port_table.py"


def has(thing: Any, name: str) -> bool:
    """Whether one of our objects offers a name, or a method of it takes an argument."""
    if not name.endswith(")"):
        return name in ("images_kwargs", "text_kwargs") or hasattr(thing, name)
    method, argument = name.removesuffix(")").split("(")
    function = type(thing.tokenizer).__call__ if method == "text_kwargs" else getattr(thing, method)
    return argument in arguments(function)


@pytest.mark.parametrize("name", CLASSES)
def test_the_table_is_true_of_ours(name: str, ours: dict[str, Any]) -> None:
    for row, (verdict, why) in table.FACES[name].items():
        assert has(ours[name], row) == (verdict != "left out"), row
        assert bool(why) == (verdict != "same"), row


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "BridgeTowerProcessor"])
def test_values_have_the_ports_defaults(name: str, ours: dict[str, Any]) -> None:
    port = getattr(transformers, name)()
    for row, (verdict, _) in table.FACES[name].items():
        if verdict == "left out" or row.endswith(")") or row in ("transformers_version", "sub_configs"):
            continue
        value, expected = getattr(ours[name], row), getattr(port, row)
        if callable(expected):
            assert callable(value), row
        elif hasattr(expected, "to_dict"):
            assert type(value).__name__ == type(expected).__name__
        elif row in ("size", "crop_size"):
            assert value == dict(expected), row
        elif row != "pad_size":
            assert value == expected, row


def test_arguments_stand_in_the_ports_order() -> None:
    for name in CLASSES:
        port, mine = getattr(transformers, name), getattr(bt_cli, name)
        for method in (*DOCUMENTED, "__call__"):
            if method not in dir(port) or (method == "__call__" and name.endswith("Config")):
                continue
            rows = [each for each in arguments(getattr(port, method)) if f"{method}({each})" in table.FACES[name]]
            taken = [each for each in rows if table.FACES[name][f"{method}({each})"][0] != "left out"]
            assert arguments(getattr(mine, method))[: len(taken)] == taken, (name, method)


def test_the_document_shows_the_table() -> None:
    assert table.rendered() in table.DOCUMENT.read_text("utf-8"), "python tests/pretrained/port_table.py"
