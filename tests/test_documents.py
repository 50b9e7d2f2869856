"""The commands that the documents show do what the documents say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from console_blocks import commands_in, first_difference, same_line

import bt_cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_COMMANDS = [document for document in DOCUMENTS if "<!-- run -->" in document.read_text("utf-8")]


@pytest.fixture
def shell(tmp_path, tmp_path_factory):
    """A shell in an empty folder with a copy of sample_data and with `bt` on its path."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    programs = tmp_path_factory.mktemp("programs")
    (programs / "bt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bt_cli "$@"\n')
    (programs / "bt").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    environment["BT_DTYPE"] = "float32"  # what the documents show does not depend on what the processor is fast at

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=300,
        )

    return run


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_tests_that_a_document_names_are_there(document):
    file = ""
    for named, test in re.findall(r"`((?:tests/[\w/]+\.py)?)::(\w+)`", document.read_text("utf-8")):
        file = named or file  # a name alone is of the file named before
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.name)
def test_the_commands_of_a_document_print_what_it_shows(document, shell):
    commands = commands_in(document.read_text("utf-8"))
    assert commands
    for command in commands:
        ran = shell(command.text)
        assert ran.returncode == 0, f"$ {command.text}\n{ran.stdout}"
        if command.output:
            difference = first_difference(command.output, ran.stdout)
            assert difference is None, f"$ {command.text}\n{difference}\n--- in full:\n{ran.stdout}"


def test_commands_are_found_with_their_output():
    document = "\n".join(
        [
            "```console",
            "$ not marked",
            "```",
            "<!-- run -->",
            "```console",
            "$ bt search 'a cat' \\",
            ">     -k 1",
            "rank  path",
            "1     cat.jpg",
            "$ bt info",
            "```",
            "text",
            "<!-- run -->",
            "```console",
            "$ echo",
            "",
            "```",
        ]
    )
    commands = [(command.text, command.output) for command in commands_in(document)]
    assert commands == [
        ("bt search 'a cat' \\\n    -k 1", ["rank  path", "1     cat.jpg"]),
        ("bt info", []),
        ("echo", [""]),
    ]
    with pytest.raises(ValueError, match="begins with 'rank'"):
        commands_in("<!-- run -->\n```console\nrank\n```")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("1  0.512  cat.jpg", "1     0.530  cat.jpg", True),
        ("1  0.512  cat.jpg", "1     0.612  cat.jpg", False),
        ("1  9.51   cat.jpg", "1     9.60  cat.jpg", True),
        ("1  0.512  cat.jpg", "2  0.512  cat.jpg", False),
        ("1  0.512  cat.jpg", "1  0.512  dog.jpg", False),
        ("320 images in 2.31 s on cpu in bfloat16", "320 images in 1 min 04 s on cpu in float32", True),
        ("320 images in 2.31 s, 139 images/s", "320 images in 9.1 s, 35.1 images/s", True),
        ("320 images in 2.31 s", "319 images in 2.31 s", False),
        ("1 ███████▌     0.61", "1 ████████     0.60", True),
        ("1  -4.512", "1  4.512", False),
    ],
)
def test_lines_are_compared_by_what_they_say(shown, printed, same):
    assert same_line(shown, printed) is same


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a\n", False),
        (["a"], "a\nb\n", False),
        (["a", "...", "d"], "a\nb\nc\nd\n", True),
        (["a", "...", "d"], "a\nd\n", True),
        (["a", "...", "d"], "x\na\nd\n", False),
        (["a", "...", "d"], "a\nd\nx\n", False),
        (["...", "b", "..."], "a\nb\nc\n", True),
        (["...", "x", "..."], "a\nb\nc\n", False),
        (["a", "..."], "a\nb\nc\n", True),
    ],
)
def test_gaps_stand_for_any_lines(shown, printed, same):
    assert (first_difference(shown, printed) is None) is same


def test_the_shell_has_bt_and_the_sample_pictures(shell):
    ran = shell("bt --version; ls sample_data/captions.csv; echo error >&2")
    assert (ran.returncode, ran.stdout) == (0, f"bt {bt_cli.__version__}\nsample_data/captions.csv\nerror\n")
    assert shell("false | true").returncode == 1
