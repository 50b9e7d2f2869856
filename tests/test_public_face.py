"""What `bt_cli` exports: every name is there, nothing heavy comes with the import, the documents use no other name."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bt_cli
from bt_cli import errors

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(document: Path) -> list[str]:
    return BLOCK.findall(document.read_text("utf-8"))


def test_every_public_name_is_there() -> None:
    assert sorted(bt_cli.__all__) == bt_cli.__all__
    assert [name for name in bt_cli.__all__ if getattr(bt_cli, name, None) is None] == []
    assert set(bt_cli.__all__) <= set(dir(bt_cli))
    with pytest.raises(AttributeError, match="no attribute 'utils'"):
        _ = bt_cli.utils


def test_every_error_is_public() -> None:
    named = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert named - set(bt_cli.__all__) == set()


def test_the_import_costs_nothing() -> None:
    heavy = ("torch", "numpy", "PIL", "faiss", "pyarrow", "tokenizers", "safetensors", "huggingface_hub", "typer")
    code = f"import sys, bt_cli; print(sorted(set({heavy!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_things_say_what_they_are() -> None:
    silent = [name for name in bt_cli.__all__ if not (getattr(bt_cli, name).__doc__ or "").strip()]
    assert silent == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_public_names_alone(document: Path) -> None:
    private = []
    for block in blocks_of(document):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bt_cli":
                names = [alias.name for alias in node.names]
                private += [f"{node.module}.{name}" for name in names if node.module != "bt_cli" or not public(name)]
            elif isinstance(node, ast.Import):
                private += [alias.name for alias in node.names if alias.name.startswith("bt_cli.")]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bt_cli":
                private += [] if public(node.attr) else [f"bt_cli.{node.attr}"]
    assert private == []


def public(name: str) -> bool:
    return name in bt_cli.__all__


@pytest.mark.slow
def test_the_examples_of_the_python_document_run(tmp_path: Path, bt, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(
        ROOT / "sample_data", tmp_path / "sample_data", ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    monkeypatch.chdir(tmp_path)
    made = bt(
        "index",
        "sample_data/images",
        "--captions",
        "sample_data/captions.csv",
        "--model",
        "tiny",
        "--index",
        "photos/.bt",
    )
    assert made.code == 0, made.err
    blocks = blocks_of(ROOT / "docs" / "python.md")
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), {"__name__": "example"})
    assert (tmp_path / "my-model" / "model.safetensors").is_file()
