"""Which kind of FAISS index a set of vectors gets: a rule of count, dimension and memory.

- **exact** up to 128 million numbers (rows x dimension): 250,000 rows of 512, 1,000,000 of 128. One query then
  reads at most 256 MB in float16, in some 20 to 40 ms on one core; nothing that is faster to search is worth an
  answer that is not the best one.
- **HNSW** (`HNSW32` over the vectors as they are stored) up to 256 million numbers, when the graph and the vectors
  fit into a quarter of the machine's memory: its links lead all over the file, so it must stay in memory to be
  fast.
- **IVF** beyond, or where memory is short: `IVF{sqrt(rows), a power of two}` over the vectors as they are stored;
  a query reads only the lists that it probes. Building takes less than three times the stored bytes (1,000,000 x
  512 in float16: 0.95 GiB stored, 2.5 GiB at the peak), so vectors beyond a quarter of the memory are kept with 8 bits
  a number, then (and above 25 million rows) with 4 in RaBitQ codes. What such codes find is ranked by the flat
  vectors, which stay on the disk.

The number of lists that a query probes, or of nodes that it visits, is not guessed: it is measured on the vectors
themselves when the index is built (`approximate_index`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

EXACT_NUMBERS = 128_000_000
GRAPH_NUMBERS = 256_000_000
GRAPH_LINKS = 32
MOST_STORED_ROWS = 25_000_000
"""Rows of which the lists hold copies with 8 bits a number or more."""
SMALLEST_TRAINING = 39
"""Training vectors that FAISS wants for each list of an IVF index."""


@dataclass(frozen=True)
class Choice:
    """A kind of index and why."""

    factory: str | None
    """For `faiss.index_factory`; None: exact."""
    reason: str
    fallback: bool = False
    """Whether lists may take its place if it does not reach the recall."""


def choose_index(
    rows: int, dimension: int, dtype: str, *, factory: str | None = None, memory: int | None = None
) -> Choice:
    """The kind of index for so many vectors; see the module's rule.

    Args:
        rows, dimension: Of the vectors.
        dtype: In which they are stored, `float16` or `float32`.
        factory: The user's own choice, taken as it is (`Flat` and `exact` mean the exact search).
        memory: Of the machine, bytes; read off it by default.
    """
    if factory is not None:
        exact = factory.lower() in ("exact", "flat")
        return Choice(None if exact else factory, "asked for with --factory")
    numbers = rows * dimension
    size = f"{rows:,} x {dimension}"
    if numbers <= EXACT_NUMBERS:
        return Choice(None, f"{size} is searched exactly in no time")
    memory = machine_memory() if memory is None else memory
    width = 2 if dtype == "float16" else 4
    stored = "SQfp16" if dtype == "float16" else "Flat"
    graph_bytes = numbers * width + rows * 2 * GRAPH_LINKS * 4 * 1.1
    if numbers <= GRAPH_NUMBERS and graph_bytes <= memory / 4:
        return Choice(
            f"HNSW{GRAPH_LINKS},{stored}", f"{size} in {_gib(graph_bytes)}, a quarter of the memory at most", True
        )
    return list_choice(rows, dimension, dtype, memory)


def choose_for_piece(rows: int, total: int, dimension: int, dtype: str, factory: str | None) -> Choice:
    """The kind of index over a piece of `rows` of an index of `total`: small pieces beside a large one are searched
    exactly."""
    if factory is not None:
        choice = choose_index(rows, dimension, dtype, factory=factory)
        few = choice.factory is not None and 4 * rows < total
        return Choice(None, f"{rows:,} beside {total:,} are searched exactly in no time") if few else choice
    whole = choose_index(total, dimension, dtype)
    if whole.factory is None or 4 * rows * dimension < EXACT_NUMBERS:
        return whole if whole.factory is None else choose_index(min(rows, EXACT_NUMBERS // dimension), dimension, dtype)
    choice = choose_index(rows, dimension, dtype)
    return choice if choice.factory is not None else list_choice(rows, dimension, dtype)


def list_choice(rows: int, dimension: int, dtype: str, memory: int | None = None) -> Choice:
    """Lists (IVF) for so many vectors, stored as the memory allows; arguments as `choose_index`."""
    memory = machine_memory() if memory is None else memory
    size = f"{rows:,} x {dimension}"
    stored_bytes = rows * dimension * (2 if dtype == "float16" else 4)
    lists = 2 ** round(math.log2(math.sqrt(max(rows, 1))))
    lists = max(1, min(lists, rows // SMALLEST_TRAINING))
    if rows <= MOST_STORED_ROWS and stored_bytes <= memory / 4:
        stored = "SQfp16" if dtype == "float16" else "Flat"
        return Choice(
            f"IVF{lists},{stored}", f"{size}, {_gib(stored_bytes)} on disk; a query reads the lists that it probes"
        )
    if rows <= MOST_STORED_ROWS and rows * dimension <= memory / 4:
        return Choice(
            f"IVF{lists},SQ8", f"{size} would take {_gib(stored_bytes)} of memory to build, so 8 bits a number"
        )
    return Choice(
        f"IVF{lists},RaBitQ4", f"{size} would take {_gib(stored_bytes)} of memory to build, so 4 bits a number"
    )


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's where that is less."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        installed = 8 << 30
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(installed, int(file.read()))
    except (OSError, ValueError):
        return installed


def _gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB"
