"""Two commands on the same files at once: both done, or one told in a line that the other is at it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from forked_process import in_child
from torture.attempt import Lost, Outcome, waited
from torture.kills import NEW, OLD, Kills, left_by
from torture.ordeal import Work
from torture.stores import content_of

REFUSED = 3


class TwoAtOnce(Kills):
    """The jobs of `Kills`, twice at the same time; or an update with readers beside it."""

    kind = "two-at-once"
    weight = 2.0

    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        name = chance.choice(("index", "update", "update", "encode", "convert", "train"))
        moment = chance.random() * 0.7 * self.seconds_of[name]
        if name == "update" and chance.random() < 0.5:
            return "update and readers", lambda: self.read_beside(scratch)
        return f"{name} and {name}", lambda: self.both(name, scratch, moment)

    def both(self, name: str, out: Path, moment: float) -> Outcome:
        self.begin(name, out)
        first = in_child(lambda: self.jobs[name](out))
        time.sleep(moment)
        second = in_child(lambda: self.jobs[name](out))
        codes = [waited(child, 120) for child in (first, second)]
        if None in codes:
            raise Lost("hangs")
        if 0 not in codes:
            raise Lost(f"neither is done: exit codes {codes}")
        if left_by(name, out) != self.expected[name]:
            raise Lost("another result than that of one alone")
        return Outcome("right" if codes == [0, 0] else "refused")

    def read_beside(self, out: Path) -> Outcome:
        self.begin("update", out)
        child = in_child(lambda: self.jobs["update"](out))
        done, seen = 0, set()
        while not done:
            seen.add(len(content_of(out / ".bt")["vectors"]))
            done = os.waitpid(child, os.WNOHANG)[0]
        if not seen <= {OLD, NEW}:
            raise Lost(f"a reader saw {seen} images")
        if left_by("update", out) != self.expected["update"]:
            raise Lost("another result than that of one alone")
        return Outcome("right")
