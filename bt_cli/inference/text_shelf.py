"""Encoded texts within a run: each is encoded once while there is room, and again only when it was put away."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from bt_cli.bridgetower.states import TextStates

SHELF_BYTES = 1 << 30


class TextShelf:
    """States of `texts` by position, least recently used out first beyond `limit` bytes.

    `encode(texts)` gives the states of some texts in order.
    """

    def __init__(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], TextStates], limit: int = SHELF_BYTES
    ) -> None:
        self.texts, self.encode, self.limit = texts, encode, limit
        self._kept: OrderedDict[int, TextStates] = OrderedDict()
        self._bytes = 0

    def take(self, positions: Sequence[int]) -> TextStates:
        """States of the texts at `positions`, in that order, padded to the longest of them."""
        missing = [position for position in positions if position not in self._kept]
        fresh: dict[int, TextStates] = {}
        if missing:
            states = self.encode([self.texts[position] for position in missing])
            fresh = dict(zip(missing, _one_by_one(states), strict=True))
        taken = []
        for position in positions:
            if position in self._kept:
                self._kept.move_to_end(position)
            taken.append(fresh.get(position) or self._kept[position])
        for position, states in fresh.items():
            self._keep(position, states)
        return TextStates.cat(taken)

    def _keep(self, position: int, states: TextStates) -> None:
        self._kept[position] = states
        self._bytes += _size(states)
        while self._bytes > self.limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)


def _one_by_one(states: TextStates) -> list[TextStates]:
    """Each text alone, cut to its own length and in memory of its own."""
    bridges = states.need_bridges()
    alone = []
    for row in range(bridges.shape[1]):
        length = bridges.shape[2] if states.keep is None else int(states.keep[row].sum())
        embeds = None if states.embeds is None else states.embeds[row : row + 1]
        alone.append(TextStates(bridges[:, row : row + 1, :length].clone(), None, embeds))
    return alone


def _size(states: TextStates) -> int:
    bridges = states.need_bridges()
    return bridges.numel() * bridges.element_size()
