"""Encoded images, kept for fusing under a budget of bytes; the rest is encoded again when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bt_cli.bridgetower.states import ImageStates


class ImageShelf:
    """Images in groups of neighbours; a group is encoded together, used once, and kept or not kept as a whole.

    Args:
        encode: Paths -> their states with bridge features.
        paths: All of the images; group g holds those from g * group_size on.
        budget: Bytes of bridge features to keep. The group in use may be in memory beyond it.
    """

    def __init__(
        self, encode: Callable[[Sequence[str]], ImageStates], paths: Sequence[str], *, group_size: int, budget: int
    ) -> None:
        self.encode: Callable[[Sequence[str]], ImageStates] = encode
        self.paths, self.group_size, self.room = paths, group_size, budget
        self.kept: dict[int, ImageStates] = {}

    def __len__(self) -> int:
        """The number of groups."""
        return -(-len(self.paths) // self.group_size)

    def span(self, group: int) -> tuple[int, int]:
        """The images of a group: the first, one past the last."""
        return group * self.group_size, min((group + 1) * self.group_size, len(self.paths))

    @property
    def has_room(self) -> bool:
        """Whether a group as large as the largest so far would be kept."""
        return self.room >= max(map(_bytes, self.kept.values()), default=1)

    def put(self, group: int, states: ImageStates) -> None:
        """Keep the states of a group for later if there is room."""
        size = _bytes(states)
        if size <= self.room:
            self.kept[group] = states
            self.room -= size

    def take(self, group: int) -> ImageStates:
        """The states of a group, those that were kept or encoded now; it won't be asked for again."""
        states = self.kept.pop(group, None)
        if states is None:
            start, stop = self.span(group)
            return self.encode(self.paths[start:stop])
        self.room += _bytes(states)
        return states


def _bytes(states: ImageStates) -> int:
    bridges = states.need_bridges()
    return bridges.numel() * bridges.element_size()
