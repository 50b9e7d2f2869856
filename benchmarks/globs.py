"""What a glob over the paths of a large index costs: `python -m benchmarks.globs [--rows 1000000]`.

For each glob the rows that match, the milliseconds by the clock (the least of a few) for all paths at once, and those
of the same glob path by path in Python, on one in a hundred of the paths, times a hundred.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable

import numpy as np

from bt_cli.paths.glob import glob_matcher, matching_rows

HOME = "/home/x"
GLOBS = (
    "*.png",
    "IMG_*.jpg",
    "cat_*",
    "*cat*",
    "*_0001*.jpg",
    "*a*b*",
    "*1?.png",
    "*[0-4].jpg",
    "c?t_*",
    "2010/*",
    "photos/2010/**",
    "**/2010/05/*.jpg",
    "photos/201?/**",
    "/home/x/photos/2011/**",
    "@eaDir/",
)
BY_HAND = 100
"""One path in so many is looked at in Python."""


def drawn_paths(count: int) -> list[str]:
    """Paths as a camera and a person leave them, in 312 folders, ascending."""
    draw = random.Random(0)
    names = ("beach", "holiday", "IMG", "DSC", "cat", "dog", "sunset", "party")
    return sorted(
        f"photos/{draw.randrange(2000, 2026)}/{draw.randrange(1, 13):02d}/"
        f"{draw.choice(names)}_{number:07d}.{draw.choice(('jpg', 'png', 'jpeg'))}"
        for number in range(count)
    )


def milliseconds(work: Callable[[], object], tries: int) -> float:
    """The least that `work` took by the clock: threads share the paths."""
    taken = []
    for _ in range(tries):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken) * 1000


def main() -> None:
    """A line for each glob."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.globs", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    paths = drawn_paths(asked.rows)
    offsets = np.cumsum([0, *map(len, paths)]).astype("<u8")
    text = np.frombuffer("".join(paths).encode(), np.uint8)
    some = [os.path.join(HOME, path) for path in paths[::BY_HAND]]
    print(f"{'glob':26}{'matches':>10}{'together':>11}{'one by one':>13}  (ms, {asked.rows:,} paths)")
    for glob in GLOBS:
        matches = glob_matcher(glob)
        found = len(matching_rows(glob, HOME, text, offsets))
        together = milliseconds(lambda glob=glob: matching_rows(glob, HOME, text, offsets), 5)  # type: ignore[misc]
        alone = milliseconds(lambda matches=matches: [*map(matches, some)], 3) * BY_HAND  # type: ignore[misc]
        print(f"{glob:26}{found:10,}{together:11.0f}{alone:13,.0f}")


if __name__ == "__main__":
    main()
