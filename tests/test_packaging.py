"""What is shipped: every file of the package, every import a declared dependency, floors that only look down."""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bt_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
DISTRIBUTIONS = {"PIL": "pillow", "faiss": "faiss-cpu", "huggingface_hub": "huggingface_hub"}
"""Modules whose distribution is called otherwise."""
OPTIONAL = {"pillow_heif"}
FLOORS = [
    {"errors", "shown_path", "whole_file", "__init__"},
    {"bridgetower", "preprocessing"},
    {"checkpoints", "datasets"},
    {"inference", "store"},
    {"retrieval", "evaluation", "training"},
    {"display"},
    {"commands", "__main__"},
]


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def imports_of(module: Path) -> set[str]:
    """Every module that a file imports, anywhere in it but under `if TYPE_CHECKING`."""
    found = set()
    for node in ast.walk(without_type_checking(ast.parse(module.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    return tree


def test_every_file_beside_the_code_is_shipped(project):
    patterns = project["tool"]["setuptools"]["package-data"]["bt_cli"]
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()]
    others = [file for file in files if file.suffix not in (".py", ".pyc") and not file.name.startswith(".")]
    forgotten = [str(file) for file in others if not any(fnmatch(str(file), pattern) for pattern in patterns)]
    assert forgotten == []
    assert [
        str(folder)
        for folder in {file.parent for file in files if file.suffix == ".py"}
        if not (PACKAGE / folder / "__init__.py").is_file()
    ] == []


def test_every_import_is_declared(project):
    names = [requirement.split(">")[0] for requirement in project["project"]["dependencies"]]
    imported = {name.split(".")[0] for module in MODULES for name in imports_of(module)}
    foreign = imported - set(sys.stdlib_module_names) - {"bt_cli", "__future__"} - OPTIONAL
    assert sorted({DISTRIBUTIONS.get(name, name) for name in foreign}) == sorted(names)


def test_every_dependency_has_a_tested_version(project):
    constraints = (ROOT / "constraints.txt").read_text("utf-8").lower().replace("_", "-")
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["dev"], *extras["heif"]]
    missing = [name for name in wanted if f"\n{name.split('>')[0].lower().replace('_', '-')}==" not in constraints]
    assert missing == []


@pytest.mark.parametrize("room", sorted({module.relative_to(PACKAGE).parts[0] for module in MODULES}))
def test_a_room_imports_only_from_its_floor_and_below(room):
    room = room.removesuffix(".py")
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = set().union(*FLOORS[: floor + 1])
    inside = PACKAGE / room
    modules = sorted(inside.rglob("*.py")) if inside.is_dir() else [PACKAGE / f"{room}.py"]
    upwards = []
    for module in modules:
        for name in imports_of(module):
            parts = name.split(".")
            if parts[0] == "bt_cli" and len(parts) > 1 and parts[1] not in allowed:
                upwards.append(f"{module.relative_to(PACKAGE)} imports {name}")
    assert upwards == []
