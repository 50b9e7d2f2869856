"""Commands and their output as documents show them, and the comparison with what they print today.

A block counts that stands right behind the comment `<!-- run -->`:

    ```console
    $ bt search "a cat" \\
    >     -k 3
    rank  score  path
    ...
    ```

`$ ` begins a command, `> ` goes on with it, the rest is its output, stdout and stderr together. A line `...` stands for
any lines. A command with no output shown has to succeed, whatever it says.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import zip_longest

BLOCK = re.compile(r"<!-- run -->\s*\n```console\n(.*?)\n```", re.DOTALL)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TIMES = re.compile(r"\b\d+ h \d+ min|\b\d+ min \d+ s|\b[\d.,]+ ?(?:ms|s|min)\b")
RATES = re.compile(r"[\d.,]+ (\w+)/s")
PRECISION = re.compile(r"\b(?:bfloat16|float32|int8)\b")
BARS = re.compile(r"[\u2580-\u259f\u2501-\u257f━╸╺]+ *|#{3,} *")
DECIMAL = re.compile(r"(-?\d+\.\d+(?:e-?\d+)?)")
TOLERANCE = 0.03
"""What a processor of another kind may change: precision `auto` is not the same everywhere."""


@dataclass
class Command:
    """One command of a document and the lines that it shows below."""

    text: str
    output: list[str] = field(default_factory=list)


def commands_in(document: str) -> list[Command]:
    """All commands of the document's marked blocks, in order."""
    commands: list[Command] = []
    for block in BLOCK.findall(document):
        inside = False
        for line in block.split("\n"):
            if line.startswith("$ "):
                commands.append(Command(line[2:]))
                inside = True
            elif not inside:
                raise ValueError(f"a block begins with {line!r}, not with a command")
            elif line.startswith("> ") and not commands[-1].output:
                commands[-1].text += "\n" + line[2:]
            else:
                commands[-1].output.append(line)
    return commands


def first_difference(shown: list[str], printed: str) -> str | None:
    """None where the printed text is what the document shows, times, rates and last digits aside; else what differs."""
    expected, actual = shown, printed.rstrip("\n").split("\n")
    if "..." in expected:
        return _difference_with_gaps(expected, actual)
    for want, have in zip_longest(expected, actual):
        if want is None or have is None or not same_line(want, have):
            return f"shown:   {want}\nprinted: {have}"
    return None


def same_line(shown: str, printed: str) -> bool:
    """Whether two lines say the same: equal words and whole numbers, decimals within 0.03 or 3 percent."""
    first, second = (DECIMAL.split(stable(line)) for line in (shown, printed))
    return len(first) == len(second) and all(map(_same_part, first, second))


def stable(line: str) -> str:
    """The line without what changes from run to run and from machine to machine; runs of spaces count as one."""
    line = RATES.sub(r"RATE \1/s", ANSI.sub("", line))
    line = BARS.sub("BAR ", PRECISION.sub("PRECISION", TIMES.sub("TIME", line)))
    return " ".join(line.split())


def _same_part(shown: str, printed: str) -> bool:
    if DECIMAL.fullmatch(shown) and DECIMAL.fullmatch(printed):
        return math.isclose(float(shown), float(printed), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return shown == printed


def _difference_with_gaps(expected: list[str], actual: list[str]) -> str | None:
    """The runs of lines between the gaps have to occur in the printed lines, in order, the ends at the ends."""
    runs: list[list[str]] = [[]]
    for line in expected:
        if line == "...":
            runs.append([])
        else:
            runs[-1].append(line)
    place = 0
    for number, wanted in enumerate(runs):
        starts = range(place, len(actual) - len(wanted) + 1)
        if number == 0:
            starts = starts[:1]
        elif number == len(runs) - 1 and wanted:
            starts = starts[-1:]
        for start in starts:
            if all(map(same_line, wanted, actual[start : start + len(wanted)])):
                place = start + len(wanted)
                break
        else:
            return "shown:   " + "\n         ".join(wanted) + "\nprinted: " + "\n         ".join(actual[place:])
    return None
