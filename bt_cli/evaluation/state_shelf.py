"""Encoded images or texts, kept for fusing under a budget of bytes; the rest is encoded again when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bt_cli.bridgetower.states import ImageStates, TextStates

States = TypeVar("States", ImageStates, TextStates)


class StateShelf(Generic[States]):
    """Items in groups of neighbours; a group is encoded together and kept or not kept as a whole.

    Args:
        encode: Items (paths or texts) -> their states with bridge features.
        items: All of them; group g holds items g * group_size and following.
        budget: Bytes of bridge features to keep. At least the group in use is in memory beyond it.
    """

    def __init__(
        self, encode: Callable[[Sequence[str]], States], items: Sequence[str], *, group_size: int, budget: int
    ) -> None:
        self.encode: Callable[[Sequence[str]], States] = encode
        self.items, self.group_size, self.room = items, group_size, budget
        self.kept: dict[int, States] = {}

    def __len__(self) -> int:
        """The number of groups."""
        return -(-len(self.items) // self.group_size)

    def span(self, group: int) -> tuple[int, int]:
        """The items of a group: the first, one past the last."""
        return group * self.group_size, min((group + 1) * self.group_size, len(self.items))

    def get(self, group: int) -> States:
        """The states of a group: those that are kept, else encoded now, and kept if there is room."""
        if group not in self.kept:
            start, stop = self.span(group)
            states = self.encode(self.items[start:stop])
            if not self.put(group, states):
                return states
        return self.kept[group]

    def put(self, group: int, states: States) -> bool:
        """Keep the states of a group if there is room; says whether."""
        size = _bytes(states)
        if size > self.room:
            return False
        self.kept[group] = states
        self.room -= size
        return True

    @property
    def has_room(self) -> bool:
        """Whether a group as large as the largest so far would be kept."""
        return self.room >= max(map(_bytes, self.kept.values()), default=1)

    def drop(self, group: int) -> None:
        """A group that won't be asked for again."""
        states = self.kept.pop(group, None)
        if states is not None:
            self.room += _bytes(states)

    def gather(self, rows: NDArray[np.int64]) -> States:
        """The states of some items, ascending row numbers; of a group that can't be kept only these are encoded."""
        import torch

        found: list[States] = []
        groups = rows // self.group_size
        for group in np.unique(groups):
            inside = rows[groups == group]
            if group not in self.kept and not self.has_room:
                found.append(self.encode([self.items[row] for row in inside]))
                continue
            states = self.get(int(group))
            index = torch.from_numpy(inside - group * self.group_size)
            whole = len(inside) == len(states)
            found.append(states if whole else states.select(index.to(states.need_bridges().device)))
        return found[0] if len(found) == 1 else type(found[0]).cat(found)


def _bytes(states: ImageStates | TextStates) -> int:
    bridges = states.need_bridges()
    return bridges.numel() * bridges.element_size()
