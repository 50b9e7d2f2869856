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
    {"errors", "version"},
    {"files"},
    {"bridgetower", "preprocessing", "datasets", "metrics", "scenes", "store"},
    {"checkpoints", "packed"},
    {"inference", "pretrained", "training"},
    {"indexing", "search", "evaluation"},
    {"display"},
    {"commands", "__init__"},
    {"__main__"},
]
"""A room imports from rooms on floors strictly below its own, and from itself."""


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def imports_of(module: Path, *, typing: bool = False) -> set[str]:
    """Every module that a file imports, anywhere in it; under `if TYPE_CHECKING` only with `typing`."""
    tree = ast.parse(module.read_text("utf-8"))
    found = set()
    for node in ast.walk(tree if typing else without_type_checking(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if is_module(f"{node.module}.{alias.name}")}
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return name.startswith("bt_cli.") and (path.is_dir() or path.with_suffix(".py").is_file())


def without_type_checking(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    return tree


def room_of(module: str) -> str:
    """The room of `bt_cli.room.file`; the package itself, which is its public face, is the room `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


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


def test_a_room_imports_only_from_floors_strictly_below():
    upwards = []
    for module in MODULES:
        room = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports_of(module, typing=True):
            other = room_of(name)
            if name.split(".")[0] == "bt_cli" and other != room and floor_of(other) >= floor_of(room):
                upwards.append(f"{module.relative_to(PACKAGE)} imports {name}")
    assert upwards == []


def test_no_files_import_one_another_in_a_circle():
    """Imports for type checkers count, too: a circle of them says that two files are one."""
    names = {".".join(module.relative_to(ROOT).with_suffix("").parts): module for module in MODULES}
    graph = {name: {other for other in imports_of(path, typing=True) if other in names} for name, path in names.items()}
    circles, done = [], set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())
    assert circles == []
