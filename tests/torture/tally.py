"""What was tried, what held and what was lost: the table at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torture.attempt import Outcome

LISTED = 40
"""Lost cases of one word that are listed; the others are counted."""


@dataclass(frozen=True)
class Try:
    """A try by its kind, its number (which with the seed makes it again) and what it was done to."""

    kind: str
    number: int
    target: str
    outcome: Outcome


@dataclass
class Row:
    """One line of the table."""

    tried: int = 0
    right: int = 0
    refused: int = 0
    lost: int = 0
    notes: Counter[str] = field(default_factory=Counter)


class Tally:
    """Counts tries by their kind."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.lost: list[Try] = []

    def add(self, done: Try) -> None:
        row = self.rows.setdefault(done.kind, Row())
        row.tried += 1
        row.right += done.outcome.word == "right"
        row.refused += done.outcome.word == "refused"
        row.notes.update(done.outcome.notes)
        if not done.outcome.held:
            row.lost += 1
            self.lost.append(done)

    def lines(self, seed: int) -> list[str]:
        """The table, what else was counted, and every case that was lost with the command that makes it again."""
        width = max(map(len, ["what", *self.rows]))
        lines = [f"{'what':{width}}  {'tried':>6} {'held':>6} {'right':>6} {'refused':>7} {'lost':>5}"]
        for kind, row in self.rows.items():
            held = row.right + row.refused
            lines.append(f"{kind:{width}}  {row.tried:6} {held:6} {row.right:6} {row.refused:7} {row.lost:5}")
        for kind, row in self.rows.items():
            lines += [f"{kind}: {count:,} {note}" for note, count in sorted(row.notes.items())]
        alike: Counter[str] = Counter()
        for done in self.lost:
            alike[done.outcome.word] += 1
            if alike[done.outcome.word] > LISTED:
                continue
            again = f"python -m tests.torture --seed {seed} --only {done.kind} --number {done.number}"
            lines.append(f"lost: {again}: {done.target}: {done.outcome.word}: {done.outcome.detail[:400]}")
        lines += [f"lost: {count - LISTED} more: {word}" for word, count in alike.items() if count > LISTED]
        return lines
