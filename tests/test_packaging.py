"""What is shipped: every file of the package, every import a declared dependency, floors that only look down."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bt_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
DISTRIBUTIONS = {"PIL": "pillow", "faiss": "faiss-cpu", "huggingface_hub": "huggingface_hub"}
"""Modules whose distribution is called otherwise."""
OPTIONAL = {
    "datasets",
    "gcsfs",
    "fsspec",
    "lancedb",
    "qdrant_client",
    "rawpy",
    "ray",
    "textual_image",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "mcp",
    "anyio",
    "pydantic",
}
FLOORS = [
    {"errors", "version"},
    {"files", "web"},
    {"sources", "weight_files"},
    {"bridgetower", "preprocessing", "datasets", "metrics", "scenes", "embeddings", "paths", "hub"},
    {"captions", "store", "checkpoints", "packed"},
    {"inference", "kept", "processing", "training"},
    {"planning", "pretrained", "search", "evaluation", "export"},
    {"indexing"},
    {"cluster", "display", "pages"},
    {"serving"},
    {"api", "arguments"},
    {"commands", "__init__"},
    {"__main__"},
]
"""A room imports from rooms on floors strictly below its own, and from itself."""


OWN = {"bt_cli", "tests", "benchmarks", "docs", "tools", "sample_data"}.union(*FLOORS)
"""Where a path begins that a document names, if it is one of the project's own."""


@pytest.fixture(scope="module")
def project():
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
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(name for extra in extras for name in extra)]
    missing = [
        name
        for name in wanted
        if not name.startswith("bridgetower[")
        and f"\n{name.split('>')[0].lower().replace('_', '-')}==" not in constraints
    ]
    assert missing == []


def test_all_names_every_extra_and_every_extra_that_is_named_exists(project):
    extras = project["project"]["optional-dependencies"]
    assert extras["all"] == [f"bridgetower[{','.join(sorted(extras.keys() - {'all', 'dev'}))}]"]
    unknown = [
        f"{name}: {extra}"
        for name, text in texts().items()
        for found in re.findall(r"bridgetower\[([\w, -]+)\]", text)
        for extra in re.split(r",\s*", found)
        if extra not in extras
    ]
    assert unknown == []


def test_both_names_of_the_command_start_it(project):
    scripts = project["project"]["scripts"]
    assert scripts == {"bt": "bt_cli.__main__:start", "bridgetower": "bt_cli.__main__:start"}


def texts() -> dict[str, str]:
    """Every text that git tracks, by its path; skips where this is no clone."""
    ran = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True)
    if ran.returncode != 0:
        pytest.skip("reads the files that git tracks: run it in a clone")
    found = {}
    for path in (ROOT / name for name in os.fsdecode(ran.stdout).split("\0") if name):
        if path.is_file() and path.suffix not in BINARY:
            found[str(path.relative_to(ROOT))] = path.read_text("utf-8", "replace")
    return found


BINARY = {".gz", ".jpg", ".npz", ".png", ".safetensors"}
STRANGER = re.compile(r"(?i)\bbt-cli\b")
INSTALLING = re.compile(
    r"(?i)\b(?:add|install|run|inject|uvx)\s+(?:[^\s;&|`]+\s+){0,6}(?<!-m )['\"]?bt[-_.]cli(?=['\"\[<>=~!`\s]|$)"
)
"""`pip install NAME`, `uv add NAME` and the like; the index takes bt_cli for bt-cli, too."""


def test_nobody_is_told_to_install_another_projects_package():
    """The name bt-cli on the package index is another project's; it is named only where that is said."""
    told = [
        f"{name}: {line}"
        for name, text in texts().items()
        if name != "tests/test_packaging.py"
        for line in text.splitlines()
        if INSTALLING.search(line) or (STRANGER.search(line) and "BeyondTrust" not in line)
    ]
    assert told == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pip install bt-cli", True),
        ("pip install 'bt-cli[heif]'", True),
        ("pip install --upgrade bt_cli>=0.1", True),
        ("uv tool install bt-cli", True),
        ("pipx run BT.CLI", True),
        ("pip install -e . && python -m bt_cli", False),
        ("pip install bridgetower; bt index bt_cli", False),
        ("uv run python -m bt_cli search", False),
    ],
)
def test_what_counts_as_telling_to_install(line, told):
    assert bool(INSTALLING.search(line)) is told


def test_a_room_imports_only_from_floors_strictly_below():
    upwards = []
    for module in MODULES:
        room = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports_of(module, typing=True):
            other = room_of(name)
            if name.split(".")[0] == "bt_cli" and other != room and floor_of(other) >= floor_of(room):
                upwards.append(f"{module.relative_to(PACKAGE)} imports {name}")
    assert upwards == []


def test_a_room_has_fifteen_files_at_most():
    """`commands` has one for each command; every other room that grows beyond is two rooms."""
    files = Counter(module.relative_to(PACKAGE).parts[0] for module in MODULES if module.name != "__init__.py")
    assert {room: count for room, count in files.items() if count > 15 and room != "commands"} == {}


def test_documents_name_files_that_are_there():
    """`rooms/name.py` and `rooms/` in a document are places of the house, of the tests or of the benchmarks."""
    missing = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        if document.name == "CHANGELOG.md":
            continue
        for name in re.findall(r"`((?:\w+/)+(?:\w+\.py)?)(?:::\w+)?`", document.read_text("utf-8")):
            if name.split("/")[0] in OWN and not any((place / name).exists() for place in (ROOT, PACKAGE)):
                missing.append(f"{document.name}: {name}")
    assert missing == []


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
