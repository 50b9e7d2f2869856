"""Run the examples of documents and write down what they print: `python tools/refresh_docs.py README.md docs/*.md`.

The examples are the commands of blocks marked `<!-- run -->`, whose form tests/console_blocks.py describes; the tests
hold the documents to what the commands print. They run in float32, so that every machine prints the same order. An
output with a line `...` in it is left as it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?<=<!-- run -->\n```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ .*\n(?:> .*\n)*", re.MULTILINE)


def refreshed(document: str, folder: Path) -> str:
    """The document with its examples run in `folder`, one after the other."""
    return BLOCK.sub(lambda block: _refreshed_block(block[0], folder), document)


def _refreshed_block(block: str, folder: Path) -> str:
    commands = list(COMMAND.finditer(block))
    ends = [command.start() for command in commands[1:]] + [len(block)]
    text = ""
    for command, end in zip(commands, ends, strict=True):
        shown = block[command.end() : end]
        printed = run(command[0][2:].replace("\n> ", "\n"), folder)
        text += command[0] + (shown if "...\n" in shown.splitlines(keepends=True) else printed)
    return text


def run(command: str, folder: Path) -> str:
    """What a command prints on a terminal of 100 columns that nobody is watching."""
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([programs, os.environ["PATH"]]), "COLUMNS": "100"}
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**environment, "HF_HUB_OFFLINE": "1", "BT_DTYPE": "float32"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if ran.returncode != 0:
        raise SystemExit(f"$ {command}{ran.stdout}exit code {ran.returncode}")
    return ran.stdout


def main(names: list[str]) -> None:
    for name in names:
        document = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sample_data").symlink_to(ROOT / "sample_data")
            document.write_text(refreshed(document.read_text("utf-8"), Path(folder)), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
