"""What a kind of torture is: something whole, and one way after another of harming a copy of it."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from torture.attempt import Outcome

Work = Callable[[], Outcome]


class Ordeal(ABC):
    """A kind of tries.

    Attributes:
        kind: Its name in the table and behind `--only`.
        weight: Its share of the time.
        count: So many tries, whatever they take; None: as many as fit into its share.
        seconds: After which one try hangs.
    """

    kind: str
    weight = 1.0
    count: int | None = None
    seconds = 30

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self) -> None:
        """Make what is whole below `folder`, once for all tries."""

    @abstractmethod
    def draw(self, chance: random.Random, number: int, scratch: Path) -> tuple[str, Work]:
        """Harm a copy, in `scratch` (which does not exist yet) or beside it.

        Returns:
            What was harmed, in words, and the work that is then done in a process of its own.
        """
