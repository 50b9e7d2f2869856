"""Which rows some paths are, among a million: what a walk finds stands in the order that a piece has, so both are gone
through side by side, thousands of paths in one comparison, and only what differs is looked up by a hash."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

SPAN = 1 << 12
"""Paths that are compared at once."""
MOST_STEPS = 20_000
"""Places where the two differ, beyond which a hash of all is faster."""


class _Order:
    """Paths in an order: their bytes, and where each lies."""

    def __init__(self, paths: pa.LargeBinaryArray) -> None:
        self.paths = paths
        offsets, text = paths.buffers()[1:]
        first = paths.offset
        self.offsets: NDArray[np.int64] = np.frombuffer(offsets, np.int64)[first : first + len(paths) + 1]
        self.text: NDArray[np.uint8] = np.frombuffer(text, np.uint8) if text is not None else np.empty(0, np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, row: int) -> bytes:
        """By which paths are in order: components compared as bytes."""
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().replace(b"/", b"\0")

    def first_from(self, row: int, key: bytes) -> int:
        """The first place behind `row` whose path does not come before the key."""
        step = 1
        while row + step < len(self) and self.key(row + step) < key:
            step *= 2
        return bisect_left(range(len(self)), key, row + 1, min(row + step, len(self)), key=self.key)


def rows_of_paths(wanted: pa.LargeBinaryArray, held: Sequence[pa.LargeBinaryArray]) -> NDArray[np.int64]:
    """The row of each wanted path among those that are held, each path once, in several arrays whose rows count on;
    (n,) int64, -1 where it is not there.

    In whatever order; fastest where the wanted and each of the arrays are in the same.
    """
    found = np.full(len(wanted), -1, np.int64)
    left = np.arange(len(wanted))
    first = np.cumsum([0, *map(len, held)])
    for number in sorted(range(len(held)), key=lambda number: -len(held[number])):
        if len(left) and len(held[number]):
            rows = np.full(len(left), -1, np.int64)
            _walk(_Order(_taken(wanted, left)), _Order(held[number]), rows)
            found[left] = np.where(rows < 0, -1, rows + first[number])
            left = left[rows < 0]
    if len(left):
        rest = _taken(wanted, left)
        for part, begin in zip(held, first, strict=False):
            rows = _looked_up(rest, part)
            found[left] = np.where(rows < 0, found[left], rows + begin)
    return found


def index_array(rows: NDArray[np.int64]) -> pa.Int64Array:
    """Rows as pyarrow takes them; its own conversion of an array imports pandas, where that is installed."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def _taken(paths: pa.LargeBinaryArray, rows: NDArray[np.int64]) -> pa.LargeBinaryArray:
    return paths if len(rows) == len(paths) else paths.take(index_array(rows))


def _walk(wanted: _Order, held: _Order, found: NDArray[np.int64]) -> None:
    """Note the rows of those that come in the same order in both."""
    here = there = steps = 0
    while here < len(wanted) and there < len(held) and steps < MOST_STEPS:
        same = _equal(wanted, here, held, there)
        found[here : here + same] = np.arange(there, there + same)
        here, there = here + same, there + same
        if same == SPAN or here == len(wanted) or there == len(held):
            continue
        steps += 1
        mine, other = wanted.key(here), held.key(there)
        if mine < other:
            here = wanted.first_from(here, other)
        else:
            there = held.first_from(there, mine)


def _equal(wanted: _Order, here: int, held: _Order, there: int) -> int:
    """How many paths from these places on are the same, `SPAN` at most."""
    count = min(SPAN, len(wanted) - here, len(held) - there)
    mine, other = (side.offsets[at : at + count + 1] for side, at in ((wanted, here), (held, there)))
    mine_ends, other_ends = mine - mine[0], other - other[0]
    differ = mine_ends != other_ends
    count = int(differ.argmax()) - 1 if differ.any() else count
    size = int(mine_ends[count])
    letters = wanted.text[mine[0] : mine[0] + size] != held.text[other[0] : other[0] + size]
    if letters.any():
        count = int(np.searchsorted(mine_ends, letters.argmax(), side="right")) - 1
    return count


def _looked_up(wanted: pa.LargeBinaryArray, held: pa.LargeBinaryArray) -> NDArray[np.int64]:
    """The rows, by a hash of the wanted paths."""
    import pyarrow.compute as pc

    each = wanted.dictionary_encode()
    found = pc.index_in(held, value_set=each.dictionary)
    # By its buffers: pyarrow's own conversion imports pandas, where that is installed, for 0.2 s and 60 MB.
    present, values = found.buffers()
    place = np.frombuffer(values, np.int32, len(held), 4 * found.offset)
    rows = np.arange(len(held))
    if present is not None:
        bits = np.unpackbits(np.frombuffer(present, np.uint8), bitorder="little")
        rows = np.flatnonzero(bits[found.offset : found.offset + len(held)])
    row_of = np.full(len(each.dictionary), -1, np.int64)
    row_of[place[rows]] = rows
    return row_of[np.frombuffer(each.indices.buffers()[1], np.int32, len(wanted), 4 * each.indices.offset)]
