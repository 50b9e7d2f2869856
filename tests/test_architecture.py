"""docs/architecture.md tells of the house as it stands: its floors, and the rooms that a picture and a query enter."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_packaging import FLOORS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text("utf-8")

TRACED = f"""
import os, sys, threading
from bt_cli.commands import app
package, rooms = os.path.dirname(os.path.dirname(app.__file__)) + os.sep, []

def entered(frame, event, argument):
    code = frame.f_code
    function = code.co_flags & {inspect.CO_OPTIMIZED} and not code.co_name.startswith("<")  # no class body, no module
    if event == "call" and function and code.co_filename.startswith(package):
        room = code.co_filename[len(package):].split(os.sep)[0]
        if room not in rooms:
            rooms.append(room)

threading.setprofile(entered)
sys.setprofile(entered)
code = app.main(sys.argv[1:])
sys.setprofile(None)
print("rooms:", *rooms)
sys.exit(code)
"""
"""Runs a command and prints the rooms of which it called a function."""


def test_the_table_of_rooms_is_that_of_the_floors() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", DOCUMENT, re.MULTILINE)
    told: list[set[str]] = [set() for _ in FLOORS]
    for floor, rooms in rows:
        told[int(floor) - 1] |= set(re.findall(r"`(\w+)`", rooms))
    assert told == FLOORS


def walk(command: str) -> list[str]:
    text = DOCUMENT.split(f"<!-- walk: {command} -->\n")[1].split("\n\n")[0]
    return re.findall(r"^\d+\. `(\w+)`", text, re.MULTILINE)


def rooms_entered(folder: Path, *arguments: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRACED, *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split()[1:])


@pytest.mark.slow
def test_a_picture_and_a_query_enter_the_rooms_that_are_told(tmp_path: Path) -> None:
    """Both in one test, as the query needs the index that the picture went into."""
    (tmp_path / "photos").mkdir()
    for name in ("scene-0001.jpg", "scene-0002.jpg"):
        (tmp_path / "photos" / name).write_bytes((ROOT / "sample_data" / "images" / name).read_bytes())
    walks = {
        "bt index photos": ["index", "photos", "--model", "tiny"],
        'bt search "a red car" --rerank': ["search", "a red car", "--rerank"],
    }
    for command, arguments in walks.items():
        told = walk(command)
        assert rooms_entered(tmp_path, *arguments) == set(told), command
        assert f"\n{NUMBERS[len(told)]} rooms:\n\n<!-- walk: {command} -->" in DOCUMENT


WORDS = ["Eight", "Nine", "Ten", "Eleven", "Twelve", "Thirteen", "Fourteen", "Fifteen", "Sixteen", "Seventeen"]
WORDS += ["Eighteen", "Nineteen", "Twenty"]
NUMBERS = dict(enumerate(WORDS, 8))
