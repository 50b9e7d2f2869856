"""The progress bar: rate and time left on stderr, only where a person is looking and did not ask for quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bt_cli.display import remarks


@contextmanager
def progress(description: str, unit: str = "image") -> Iterator[Callable[[int, int], None]]:
    """Give a callback `tick(done, total)` that draws a bar until the block ends.

    The bar appears with the first tick; `unit` is a noun ("image", "pair"), and bytes are written in kB, MB and so on.
    Where stderr is no terminal, or under `--quiet`, the callback does nothing and tqdm is not even imported.
    """
    if remarks.is_quiet() or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    bar: Any = None

    def tick(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            from tqdm import tqdm

            # The unit is written behind the rate, where tqdm puts no space of its own.
            units: dict[str, Any] = {"unit": f" {unit}s"}
            if unit == "byte":
                units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            bar = tqdm(total=total, desc=description, dynamic_ncols=True, leave=False, file=sys.stderr, **units)
            remarks.set_bar(bar)
        if total != bar.total:
            bar.total = total
        bar.update(done - bar.n)
        if unit == "byte" and done >= total:
            # A download that is done makes room for the work that waited for it.
            close()

    def close() -> None:
        nonlocal bar
        if bar is not None:
            remarks.set_bar(None)
            bar.close()
            bar = None

    try:
        yield tick
    finally:
        close()
