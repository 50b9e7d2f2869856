"""The names of the files that one generation of an index consists of."""

from __future__ import annotations

import re

GENERATED = re.compile(
    r"(?:(?:images|captions)-(\d{6,})\.parquet|(?:vectors|caption-vectors|unsorted)-(\d{6,})\.faiss"
    r"|(?:paths|texts)-(\d{6,})\.bin|caption-images-(\d{6,})\.npy)",
    re.ASCII,
)
"""The whole names of a generation's files, a group with its number; nothing else in an index folder is removed."""
