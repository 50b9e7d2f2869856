"""Files that a walk passed over: how many, of which kinds, and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field

from bt_cli.files.image_format import EXTRA

_SUFFIX = re.compile(r"\.[a-z0-9_~+-]{1,12}", re.IGNORECASE | re.ASCII)

SHOWN_KINDS = 6
"""Suffixes that a line names before it sums up."""

SPECIAL = "special"
"""What counts pipes, devices, sockets and the kernel's own files among the suffixes."""


@dataclass
class PassedOver:
    """The tally of one walk."""

    suffixes: Counter[str] = field(default_factory=Counter)
    """Files that are no images, or none that can be read here: by suffix (lower case, with its dot; "" for none;
    `SPECIAL`)."""
    excluded: int = 0
    """Files and folders that a rule left out (see `exclusion`); a folder counts once, nobody looks into it."""
    unread: Counter[str] = field(default_factory=Counter)
    """The part of `suffixes` that an extra of this project reads, where its packages are not installed."""

    def add(self, path: str) -> None:
        """Count a file that is no image."""
        self.suffixes[suffix_of(path)] += 1

    def add_unread(self, path: str) -> None:
        """Count an image whose format needs a package that is not installed."""
        self.add(path)
        self.unread[suffix_of(path)] += 1

    def lines(self) -> list[str]:
        """What was passed over, in words: `38 files passed over: 30 .dng, 8 .mp4`; what was left out; how to read what
        an extra reads. Nothing where there is nothing to say."""
        lines = []
        if self.suffixes:
            total = sum(self.suffixes.values())
            kinds = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
            shown = [f"{number:,} {_KINDS.get(suffix, suffix)}" for suffix, number in kinds[:SHOWN_KINDS]]
            rest = sum(number for _, number in kinds[SHOWN_KINDS:])
            if rest:
                shown.append(f"{rest:,} more")
            lines.append(f"{_count(total, 'file')} passed over: {', '.join(shown)}")
        if self.excluded:
            lines.append(f"{_count(self.excluded, 'file or folder', 'files and folders')} excluded")
        if self.unread:
            lines.append(f"pip install '{EXTRA}' reads {', '.join(sorted(self.unread))}")
        return lines


_KINDS = {"": "without a suffix", SPECIAL: "pipes or devices"}


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def suffix_of(path: str) -> str:
    """A file's suffix, lower case, "" where it has none: in `Shot at 10.15.30` the last dot begins none."""
    suffix = os.path.splitext(os.path.basename(path))[1]
    letters = any(character.isalpha() for character in suffix)
    return suffix.lower() if letters and _SUFFIX.fullmatch(suffix) else ""
