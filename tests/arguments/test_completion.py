"""What the shell offers for `--model`, `--device` and `--dtype`, without the libraries of a command's work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bt_cli.arguments import completion


def offered(line: str, folder: Path) -> tuple[list[str], str]:
    """What bash is told for a line that ends where the cursor is, and which heavy modules that took."""
    code = (
        "import sys\nfrom bt_cli.commands.app import main\nmain([])\n"
        "heavy = {'torch', 'faiss', 'pyarrow', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    settings = {"_BT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **settings, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split(), ran.stderr


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("bt search --dtype b", ["bfloat16"]),
        ("bt index --device c", ["cpu", "cuda", "cuda:0"]),
        ("bt search --model ti", ["tiny", "tinted/"]),
        ("bt rerank --reranker BridgeTower/bridgetower-large-itm-mlm-i", ["BridgeTower/bridgetower-large-itm-mlm-itc"]),
        ("bt models info t", ["tiny", "tinted/"]),
        ("bt sea", ["search"]),
    ],
)
def test_the_shell_offers_what_fits(line: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "tinted").mkdir()
    (tmp_path / "tiny.txt").touch()
    found, heavy = offered(line, tmp_path)
    assert found == names
    assert heavy.splitlines()[-1:] in ([], ["[]"])


def test_a_checkpoint_of_this_machine_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--tower" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bridgetower"}')
    (snapshot / "model.safetensors").touch()
    for name in ("preprocessor_config.json", "tokenizer.json"):
        (snapshot / name).write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("c0ffee")
    assert completion.checkpoints("some") == ["someone/tower"]
