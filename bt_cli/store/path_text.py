"""The bytes of all paths of an index, one after another, compared many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Table = NDArray[np.bool_]
"""(256,): which bytes fit."""
Literal = bytes
Chunk = tuple["Literal | Table", ...]
"""What stands side by side: bytes as they are, or one byte that a table allows."""

_SLASH = 47
_FEW_ROWS = 100_000
"""Up to so many names are looked through backwards for their slash; for more, all slashes are found at once."""
_SAMPLE = 1 << 16


class PathText:
    """Paths as an index stores them: `text` their bytes, `starts` and `ends` (n,) int64 where each lies in it."""

    def __init__(self, text: NDArray[np.uint8], offsets: Numbers) -> None:
        self.text = np.ascontiguousarray(text)
        self.starts, self.ends = offsets[:-1], offsets[1:]
        self._slashes: Numbers | None = None
        self._counts: NDArray[np.int64] | None = None

    def all(self) -> Numbers:
        """Every row."""
        return np.arange(len(self.starts))

    def name_starts(self, rows: Numbers) -> Numbers:
        """Where the file's name begins: behind the last slash."""
        if self._slashes is None and len(rows) <= _FEW_ROWS:
            return self._looking_back(rows)
        if self._slashes is None:
            self._slashes = np.flatnonzero(self.text == _SLASH)
        if not len(self._slashes):
            return self.starts[rows]
        before = np.searchsorted(self._slashes, self.ends[rows]) - 1
        last = np.where(before >= 0, self._slashes[before], -1)
        return np.maximum(last + 1, self.starts[rows])

    def _looking_back(self, rows: Numbers) -> Numbers:
        starts = self.starts[rows]
        begins = self.ends[rows].copy()
        open_rows = np.flatnonzero(begins > starts)
        while len(open_rows):
            open_rows = open_rows[self.text[begins[open_rows] - 1] != _SLASH]
            begins[open_rows] -= 1
            open_rows = open_rows[begins[open_rows] > starts[open_rows]]
        return begins

    def owners(self, positions: Numbers) -> Numbers:
        """The rows that bytes of the text belong to."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def has(self, positions: Numbers, literal: Literal) -> Table:
        """Whether the text goes on with `literal` at each of the positions; beyond its end it does not."""
        found = positions + len(literal) <= len(self.text)
        left = np.flatnonzero(found)
        done = 0
        for size in (8, 4, 2, 1):
            while len(literal) - done >= size and len(left):
                words = np.ndarray((len(self.text) - size + 1,), f"<u{size}", self.text, strides=(1,))
                equal = words[positions[left] + done] == int.from_bytes(literal[done : done + size], "little")
                left = left[equal]
                done += size
        found[:] = False
        found[left] = True
        return found

    def fits(self, positions: Numbers, chunk: Chunk) -> Table:
        """Whether the text goes on as `chunk` says at each of the positions, all of which leave room for it."""
        found = np.ones(len(positions), bool)
        at = 0
        for part in chunk:
            left = np.flatnonzero(found)
            if isinstance(part, bytes):
                found[left] = self.has(positions[left] + at, part)
                at += len(part)
            else:
                found[left] = part[self.text[positions[left] + at]]
                at += 1
        return found

    def occurrences(self, chunk: Chunk) -> Numbers:
        """Where in the text `chunk` stands, ascending; it may reach over the end of a path."""
        at, (offset, part) = 0, self._rarest(chunk)
        if isinstance(part, bytes):
            at = self._rarest_byte(part)
            places = np.flatnonzero(self.text == part[at])
        else:
            places = np.flatnonzero(part[self.text])
        places = places - (offset + at)
        places = places[(places >= 0) & (places + length(chunk) <= len(self.text))]
        return places[self.fits(places, chunk)]

    def beginning(self, rows: Numbers, literal: Literal) -> tuple[Numbers, Numbers]:
        """Those of `rows` that begin with `literal`, and where the rest of each begins."""
        starts = self.starts[rows]
        fits = (self.ends[rows] - starts >= len(literal)) & self.has(starts, literal)
        return rows[fits], starts[fits] + len(literal)

    def with_name(self, rows: Numbers, chunks: Sequence[Chunk]) -> Numbers:
        """Those of `rows` whose file name is made of `chunks`, with anything between one and the next.

        The only chunk is the whole name; an empty one at either end lets the name begin or end as it likes.
        """
        first, *others = chunks
        if others == [()] and not first:
            return rows
        rows = self._that_may(rows, chunks)
        begins = self.name_starts(rows)
        ends = self.ends[rows]
        if not others:
            kept = ends - begins == length(first)
            return rows[kept][self.fits(begins[kept], first)]
        kept = ends - begins >= sum(map(length, chunks))
        kept[kept] = self.fits(begins[kept], first)
        rows, at, limit = rows[kept], begins[kept] + length(first), ends[kept] - length(others[-1])
        for chunk in others[:-1]:
            rows, at, limit = self._behind(chunk, rows, at, limit)
        return rows

    def _that_may(self, rows: Numbers, chunks: Sequence[Chunk]) -> Numbers:
        """Those of `rows` that end as the last chunk says, and hold the longest literal of the others."""
        last = chunks[-1]
        if last:
            rows = rows[self.ends[rows] - self.starts[rows] >= length(last)]
            rows = rows[self.fits(self.ends[rows] - length(last), last)]
        literals = [part for chunk in chunks[:-1] for part in chunk if isinstance(part, bytes)]
        if literals and len(rows) > _FEW_ROWS:
            holding = np.zeros(len(self.starts), bool)
            holding[self.owners(self.occurrences((max(literals, key=len),)))] = True
            rows = rows[holding[rows]]
        return rows

    def _behind(self, chunk: Chunk, rows: Numbers, at: Numbers, limit: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Those of `rows` with `chunk` at or behind `at` and before `limit`: they, where the first such ends, limit."""
        places = self.occurrences(chunk)
        number = np.searchsorted(places, at)
        kept = number < len(places)
        rows, limit, found = rows[kept], limit[kept], places[number[kept]] + length(chunk)
        kept = found <= limit
        return rows[kept], found[kept], limit[kept]

    def groups(self, starts: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
        """Pieces of the text, equal neighbours together: the first of each group, and the group of each piece."""
        if not len(starts):
            return starts, starts
        lengths = ends - starts
        same = lengths[1:] == lengths[:-1]
        for at in range(0, int(lengths.max()), 8):
            left = np.flatnonzero(same & (lengths[1:] > at))
            if not len(left):
                continue
            size = np.minimum(lengths[left + 1] - at, 8)
            same[left] = self._words(starts[left] + at, size) == self._words(starts[left + 1] + at, size)
        new = np.concatenate([[True], ~same])
        return np.flatnonzero(new), np.cumsum(new) - 1

    def _words(self, positions: Numbers, sizes: Numbers) -> NDArray[np.uint64]:
        """The `sizes` (at most 8) bytes at each of the positions as one number."""
        padded = self._padded()
        words = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))[positions]
        unused = ((8 - sizes) * 8).astype(np.uint64)
        return words << unused

    def _padded(self) -> NDArray[np.uint8]:
        if self._with_end is None:
            self._with_end = np.concatenate([self.text, np.zeros(8, np.uint8)])
        return self._with_end

    _with_end: NDArray[np.uint8] | None = None

    def beyond_ascii(self, rows: Numbers) -> Table:
        """Which of `rows` hold a byte that is no character by itself."""
        places = np.flatnonzero(self.text > 127)
        found = np.zeros(len(self.starts), bool)
        if len(places):
            found[self.owners(places)] = True
        return found[rows]

    def _rarest(self, chunk: Chunk) -> tuple[int, Literal | Table]:
        """The part of a chunk that is likely to stand in the fewest places, and where in the chunk it lies."""
        parts, at = [], 0
        for part in chunk:
            share = min(self._counted()[list(part)]) if isinstance(part, bytes) else self._counted()[part].sum()
            parts.append((int(share), at, part))
            at += len(part) if isinstance(part, bytes) else 1
        _, at, part = min(parts, key=lambda each: each[:2])
        return at, part

    def _rarest_byte(self, literal: Literal) -> int:
        return int(np.argmin(self._counted()[list(literal)]))

    def _counted(self) -> NDArray[np.int64]:
        if self._counts is None:
            step = max(len(self.text) // _SAMPLE, 1) | 1
            self._counts = np.bincount(self.text[::step], minlength=256)
        return self._counts


def length(chunk: Chunk) -> int:
    """Bytes that a chunk takes."""
    return sum(len(part) if isinstance(part, bytes) else 1 for part in chunk)
