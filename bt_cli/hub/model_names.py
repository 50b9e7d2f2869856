"""What a user may call a checkpoint: a bundled name, a hub name, or a folder; and what they may have meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

BUNDLED = ("tiny",)

BUNDLED_USE = "trying bt out: knows drawn scenes, no photographs"

SCENE_SIDE = 384
"""Pixels of a side of the scenes that the bundled checkpoint learned from: what is larger is something else."""

OFFICIAL = {
    "BridgeTower/bridgetower-base": "training from: base, no heads",
    "BridgeTower/bridgetower-base-itm-mlm": "reranking and masked words, on small machines",
    "BridgeTower/bridgetower-large-itm-mlm": "reranking and masked words",
    "BridgeTower/bridgetower-large-itm-mlm-gaudi": "the same, trained on Gaudi",
    "BridgeTower/bridgetower-large-itm-mlm-itc": "index and search; reranks, too",
}
"""The authors' checkpoints on the hub and what each is for."""

PARAMETERS = {
    "BridgeTower/bridgetower-base": 326_347_008,
    "BridgeTower/bridgetower-base-itm-mlm": 365_595_995,
    "BridgeTower/bridgetower-large-itm-mlm": 917_091_419,
    "BridgeTower/bridgetower-large-itm-mlm-gaudi": 917_091_419,
    "BridgeTower/bridgetower-large-itm-mlm-itc": 919_190_108,
}
"""Of each, counted from its config.json and heads; the hub keeps them in float32."""

_HUB_NAME = re.compile(r"[A-Za-z0-9_.\-]+/[A-Za-z0-9_.\-]+")


def is_hub_name(name: str) -> bool:
    """Whether `name` has the hub's form `owner/name` and nothing of a path about it."""
    return bool(_HUB_NAME.fullmatch(name)) and not name.startswith((".", "/")) and ".." not in name


def looks_like_path(name: str) -> bool:
    """Whether whoever wrote `name` meant a file or folder of this machine."""
    has_separator = os.sep in name or (os.altsep is not None and os.altsep in name)
    return name.startswith((".", "~", os.sep)) or (has_separator and not is_hub_name(name))


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely stands for: its last part, or all of it, nearly the same; else None."""
    by_last_part = {candidate.rpartition("/")[2].lower(): candidate for candidate in known}
    whole = {candidate.lower(): candidate for candidate in by_last_part.values()}
    for spelling, candidates in ((name.lower(), whole), (name.rpartition("/")[2].lower(), by_last_part)):
        near = difflib.get_close_matches(spelling, candidates, n=1, cutoff=0.75)
        if near:
            return candidates[near[0]]
    return None
