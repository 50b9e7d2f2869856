#!/usr/bin/env python3
"""Draws the pictures of this folder, and larger collections of the same kind.

    python -m sample_data.draw                       these scenes again, byte for byte
    python -m sample_data.draw scenes DIR -n 1000    held-out scenes with their mirrors, to evaluate on
    python -m sample_data.draw stickers DIR          300 pages of stickers, to try `bt train` on

Needs the Noto Color Emoji font (Debian package fonts-noto-color-emoji), or BT_EMOJI_FONT with the path of
NotoColorEmoji.ttf.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Mostly where two things stand, which is what reranking is for; a little of everything else.
SAMPLE_SCENES = 320
SAMPLE_MIX = {
    "relation": 0.5,
    "two-positions": 0.1,
    "one-position": 0.1,
    "between": 0.06,
    "count": 0.1,
    "one": 0.04,
    "two": 0.05,
    "many": 0.05,
}
SAMPLE_THINGS = [("cat", "dog"), ("horse", "house"), ("dog", "butterfly"), ("cat", "guitar")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw scenes and stickers with captions.")
    what = parser.add_subparsers(dest="what")
    scenes = what.add_parser("scenes", help="scenes of two things, left, right, above and below, each meaning once")
    scenes.add_argument("folder", type=Path)
    scenes.add_argument("-n", type=int, default=1000, help="how many (default: 1000)")
    scenes.add_argument("--split", choices=("train", "val", "test"), default="test", help="which pairs of things")
    stickers = what.add_parser("stickers", help="things that no scene shows, in another style")
    stickers.add_argument("folder", type=Path)
    stickers.add_argument("--train", type=int, default=200, help="pages in train.csv (default: 200)")
    stickers.add_argument("--test", type=int, default=100, help="pages in test.csv (default: 100)")
    for each in (parser, scenes, stickers):
        each.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)

    from bt_cli.errors import BtError
    from sample_data.collection import write_dataset
    from sample_data.stickers import write_stickers

    try:
        if chosen.what == "scenes":
            write_dataset(chosen.folder, chosen.n, chosen.split, chosen.seed)
        elif chosen.what == "stickers":
            write_stickers(chosen.folder, chosen.train, chosen.test, chosen.seed)
        else:
            write_dataset(HERE, SAMPLE_SCENES, "test", chosen.seed, mix=SAMPLE_MIX, things=SAMPLE_THINGS, quality=84)
    except BtError as error:
        print(f"draw.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
