"""Lists of shards in one word, as they are written for clusters: `shards/{000..019}.tar`, `shards/*.tar`."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re

from bt_cli.errors import Misuse, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.data_set_name import data_set_files, is_data_set_name
from bt_cli.sources.web_address import allowed_as, is_url

MOST = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def shard_list(name: str) -> list[str]:
    """What a name stands for: itself where there is such a file or folder, else what its braces and wildcards give, or
    the files of a data set of the hub (`data_set_name`).

    Braces hold a range of numbers, written with as many digits as its first (`{000..019}`), or words (`{train,val}`).

    Raises:
        NotFound: A wildcard that no file fits.
        Misuse: More than a million names, or a range that ends before it begins.
        BtError: What `data_set_files` raises, for the name of a data set.
    """
    if is_data_set_name(name) and not os.path.lexists(name):
        return data_set_files(name)
    if is_url(name):
        # A store lists what fits its wildcards by itself; in an address of the web they are none.
        if os.path.lexists(name) or not _BRACES.search(name):
            return [name]
        return [allowed_as(name, each) for each in _spelled_out(name)]
    if os.path.lexists(name) or not (_BRACES.search(name) or glob.has_magic(name)):
        return [name]
    found: list[str] = []
    for spelled in _spelled_out(name):
        if not glob.has_magic(spelled) or os.path.lexists(spelled):
            found.append(spelled)
            continue
        fitting = sorted(glob.glob(spelled), key=os.fsencode)
        if not fitting:
            raise NotFound(f"{shown_path(spelled)}: no such file or folder, and no file fits it as a pattern")
        found += fitting
    return found


def _spelled_out(name: str) -> list[str]:
    pieces = _BRACES.split(name)  # what stands between braces, and at odd places what is in them
    choices = [_words(piece, name) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    if math.prod(map(len, choices)) > MOST:
        raise Misuse(f"{shown_path(name)}: stands for more than {MOST:,} files")
    return ["".join(words) for words in itertools.product(*choices)]


def _words(inner: str, name: str) -> list[str]:
    numbers = _RANGE.fullmatch(inner)
    if numbers is None:
        return inner.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if first > last or last - first >= MOST:
        raise Misuse(f"{shown_path(name)}: {{{inner}}} is no range of at most {MOST:,} numbers")
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
