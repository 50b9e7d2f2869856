"""The names of the files that one generation of an index consists of."""

from __future__ import annotations

import re

GENERATED = re.compile(
    r"(?:(?:images|captions)-(\d{6,})\.parquet|(?:vectors|caption-vectors|unsorted)-(\d{6,})\.faiss"
    r"|(?:paths|texts)-(\d{6,})\.bin|caption-images-(\d{6,})\.npy)",
    re.ASCII,
)
"""The whole names of a generation's files, a group with its number; nothing else in an index folder is removed,
but for what a stopped writer left of a manifest."""

UNFINISHED_MANIFEST = re.compile(r"\.manifest\.json\.[a-z0-9_]{8}\.part", re.ASCII)
"""The whole name of a manifest in the making (`whole_file.open_whole`); under the writers' lock, of one given up."""
