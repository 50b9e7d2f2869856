"""The bytes of all paths of an index, one after another, compared many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bt_cli.sources.web_address import SCHEMES

Numbers = NDArray[np.int64]
Table = NDArray[np.bool_]
"""(256,): which bytes fit."""
Literal = bytes
Chunk = tuple["Literal | Table", ...]
"""What stands side by side: bytes as they are, or one byte that a table allows."""

WORD = 8
"""Bytes that are compared at once."""

BYTES_LOOKED_FOR = 3
"""Of a literal, in the whole text; the others are compared where these stand."""

_SLASH = 47
_MANTISSA_BITS, _EXPONENT_OF_ONE = 52, 1023  # of a float64
_PAD = WORD
_FEW_ROWS = 100_000
"""So many paths are looked at themselves; of more, those that may match are found in the whole text first."""
_SAMPLE = 1 << 16


class PathText:
    """Paths as an index stores them: `text` their bytes, `starts` and `ends` (n,) int64 where each lies in it."""

    def __init__(self, text: NDArray[np.uint8], offsets: Numbers) -> None:
        self.text = np.ascontiguousarray(text)
        self.starts, self.ends = offsets[:-1], offsets[1:]
        self._counts: NDArray[np.int64] | None = None
        self._with_ends: NDArray[np.uint8] | None = None
        self._found: dict[Literal, Numbers] = {}

    def all(self) -> Numbers:
        """Every row."""
        return np.arange(len(self.starts))

    def name_starts(self, rows: Numbers) -> Numbers:
        """Where the file's name begins: behind the last slash, looked for from the end, eight bytes at a time."""
        starts, begins = self.starts[rows], self.ends[rows]
        words = np.ndarray((len(self._padded()) - 7,), "<u8", self._padded(), strides=(1,))
        left = np.flatnonzero(begins > starts)
        while len(left):
            at = begins[left]
            slashes = _bytes_equal(words[at - WORD + _PAD], _SLASH)
            begins[left] = at - WORD
            hit = np.flatnonzero(slashes)
            # The highest bit is the last slash of the eight bytes; a float's exponent says where it stands.
            exponents = (slashes[hit].astype(np.float64).view(np.int64) >> _MANTISSA_BITS) - _EXPONENT_OF_ONE
            begins[left[hit]] += exponents // WORD + 1
            left = left[(slashes == 0) & (at - WORD > self.starts[rows[left]])]
        np.maximum(begins, self.starts[rows], out=begins)
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
        if len(chunk) > 1 or not isinstance(chunk[0], bytes):
            return self._search(chunk)
        if chunk[0] not in self._found:
            self._found[chunk[0]] = self._search(chunk)
        return self._found[chunk[0]]

    def _search(self, chunk: Chunk) -> Numbers:
        places = len(self.text) - length(chunk) + 1
        if places <= 0:
            return np.empty(0, np.int64)
        offsets, fitting = self._rarest_bytes(chunk)
        if len(offsets):
            found = self.text[offsets[0] : offsets[0] + places] == fitting[0]
            for offset, byte in zip(offsets[1:], fitting[1:], strict=True):
                found &= self.text[offset : offset + places] == byte
        else:
            table = chunk[0]
            assert not isinstance(table, bytes)
            found = table[self.text[:places]]
        hits = np.flatnonzero(found)
        return hits[self.fits(hits, chunk)]

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
        if len(chunks) == 2 and not first:
            return rows  # no slash fits into a chunk, so a path that ends like this has a name that does
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
        """Those of `rows` that end as the last chunk says, and hold the rarest literal of the others."""
        last = chunks[-1]
        if last:
            rows = rows[self.ends[rows] - self.starts[rows] >= length(last)]
            rows = rows[self.fits(self.ends[rows] - length(last), last)]
        literals = [part for chunk in chunks[:-1] for part in chunk if isinstance(part, bytes)]
        if literals and len(rows) > _FEW_ROWS:
            holding = np.zeros(len(self.starts), bool)
            holding[self.owners(self.occurrences((min(literals, key=self._frequency),)))] = True
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
        for at in range(0, int(lengths.max()), WORD):
            left = np.flatnonzero(same & (lengths[1:] > at))
            if not len(left):
                continue
            size = np.minimum(lengths[left + 1] - at, WORD)
            same[left] = self._words(starts[left] + at, size) == self._words(starts[left + 1] + at, size)
        new = np.concatenate([[True], ~same])
        return np.flatnonzero(new), np.cumsum(new) - 1

    def _words(self, positions: Numbers, sizes: Numbers) -> NDArray[np.uint64]:
        """The `sizes` (at most `WORD`) bytes at each of the positions as one number."""
        words = np.ndarray((len(self._padded()) - 7,), np.dtype("<u8"), self._padded(), strides=(1,))
        kept: NDArray[np.uint64] = words[positions + _PAD]
        return kept << ((WORD - sizes) * WORD).astype(np.uint64)

    def _padded(self) -> NDArray[np.uint8]:
        """The text with room for a word before it and behind it."""
        if self._with_ends is None:
            self._with_ends = np.pad(self.text, _PAD)
        return self._with_ends

    def beyond_ascii(self, rows: Numbers) -> Table:
        """Which of `rows` hold a byte that is no character by itself."""
        found = np.zeros(len(self.starts), bool)
        if len(self.text) and self.text.max() > 127:
            found[self.owners(np.flatnonzero(self.text > 127))] = True
        return found[rows]

    def _rarest_bytes(self, chunk: Chunk) -> tuple[list[int], list[int]]:
        """Where in a chunk those of its bytes stand that are likely to be rare in the text, and which they are."""
        known, at = [], 0
        for part in chunk:
            if isinstance(part, bytes):
                known += [(int(self._counted()[byte]), at + place, byte) for place, byte in enumerate(part)]
            at += len(part) if isinstance(part, bytes) else 1
        rarest = sorted(known)[:BYTES_LOOKED_FOR]
        return [place for _, place, _ in rarest], [byte for _, _, byte in rarest]

    def _frequency(self, literal: Literal) -> tuple[int, int]:
        """How often a literal stands in the text at most, as a sample says; among equals the longer one is rarer."""
        return min(int(self._counted()[byte]) for byte in literal), -len(literal)

    def _counted(self) -> NDArray[np.int64]:
        if self._counts is None:
            step = max(len(self.text) // _SAMPLE, 1) | 1
            self._counts = np.bincount(self.text[::step], minlength=256)
        return self._counts


def _bytes_equal(words: NDArray[np.uint64], byte: int) -> NDArray[np.uint64]:
    """128 in each byte of the words that is `byte`, 0 in the others."""
    low = np.uint64(0x7F7F7F7F7F7F7F7F)
    other = words ^ np.uint64(byte * 0x0101010101010101)
    return ~(((other & low) + low) | other | low)


def length(chunk: Chunk) -> int:
    """Bytes that a chunk takes."""
    return sum(len(part) if isinstance(part, bytes) else 1 for part in chunk)


def address_rows(text: NDArray[np.uint8], offsets: Numbers) -> Numbers:
    """Rows (m,) int64, ascending, whose path is an address on the web or in a store."""
    starts, lengths = offsets[:-1], np.diff(offsets)
    found = np.zeros(len(starts), bool)
    long_enough = np.flatnonzero(lengths > min(map(len, SCHEMES)))
    firsts = text[starts[long_enough]] | 0x20  # small letters; `:` and `/` stay what they are
    for scheme in SCHEMES:
        rows = long_enough[firsts == ord(scheme[0])]
        rows = rows[lengths[rows] > len(scheme)]
        for place, letter in enumerate(scheme.encode()):
            rows = rows[(text[starts[rows] + place] | 0x20) == letter]
        found[rows] = True
    return np.flatnonzero(found)
