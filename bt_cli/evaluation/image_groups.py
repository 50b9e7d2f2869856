"""Encoded images, group by group: kept for fusing under a budget of bytes, or encoded again when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bt_cli.bridgetower.states import ImageStates
from bt_cli.inference.cache import ByteCache, bytes_of


class ImageGroups:
    """Images in groups of neighbours; a group is encoded together, used once, and kept or not kept as a whole.

    Groups are used in the order in which they were put, so none goes to make room for another: each would go just
    before its turn.

    Args:
        encode: Paths -> their states with bridge features.
        paths: All of the images; group g holds those from g * group_size on.
        budget: Bytes of bridge features to keep. The group in use may be in memory beyond it.
    """

    def __init__(
        self, encode: Callable[[Sequence[str]], ImageStates], paths: Sequence[str], *, group_size: int, budget: float
    ) -> None:
        self.encode: Callable[[Sequence[str]], ImageStates] = encode
        self.paths, self.group_size = paths, group_size
        self._states: ByteCache[int, ImageStates] = ByteCache(budget, bytes_of)
        self._largest = 1

    def __len__(self) -> int:
        """The number of groups."""
        return -(-len(self.paths) // self.group_size)

    def span(self, group: int) -> tuple[int, int]:
        """The images of a group: the first, one past the last."""
        return group * self.group_size, min((group + 1) * self.group_size, len(self.paths))

    @property
    def has_room(self) -> bool:
        """Whether a group as large as the largest so far would be kept."""
        return self._states.room >= self._largest

    def put(self, group: int, states: ImageStates) -> None:
        """Keep the states of a group for later if there is room."""
        self._largest = max(self._largest, bytes_of(states))
        self._states.put(group, states, evict=False)

    def take(self, group: int) -> ImageStates:
        """The states of a group, those that were kept or encoded now; it won't be asked for again."""
        states = self._states.pop(group)
        if states is None:
            start, stop = self.span(group)
            return self.encode(self.paths[start:stop])
        return states
