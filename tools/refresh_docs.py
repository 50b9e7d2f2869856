"""Run the examples of documents and write down what they print: `python tools/refresh_docs.py docs/commands.md`.

An example is a line `$ command` in a block marked `console`; what stands below it is replaced by what the command
prints, stdout and stderr together, as a terminal would show it. All commands of a file run one after the other in one
empty folder that holds `sample_data`; `$ export NAME=VALUE` holds for those that follow.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
EXPORT = re.compile(r"export ((?:\w+=\S+ ?)+)")


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a document's console blocks with the output that stands below it."""
    for block in BLOCK.findall(text):
        command, output = None, ""
        for line in block.splitlines(keepends=True):
            if line.startswith("$ "):
                if command is not None:
                    yield command, output
                command, output = line[2:].rstrip("\n"), ""
            else:
                output += line
        if command is not None:
            yield command, output


def refreshed(text: str, folder: Path) -> str:
    """The document with its examples run in `folder`."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "100",
        "HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
    }

    def run(command: str) -> str:
        assigned = EXPORT.fullmatch(command)
        if assigned:
            environment.update(pair.split("=", 1) for pair in assigned[1].split())
            return ""
        ran = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if ran.returncode != 0:
            raise SystemExit(f"$ {command}\n{ran.stdout}exit code {ran.returncode}")
        return ran.stdout

    def block(found: re.Match[str]) -> str:
        commands = [line[2:] for line in found[0].splitlines() if line.startswith("$ ")]
        return "".join(f"$ {command}\n{run(command)}" for command in commands)

    return BLOCK.sub(block, text)


def main(names: list[str]) -> None:
    for name in names:
        document = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sample_data").symlink_to(ROOT / "sample_data")
            document.write_text(refreshed(document.read_text(), Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
