"""How a checkpoint's reranking combines a pair's match logit with its cosine, as measured and kept in its config.json.

`transformers` keeps a key of config.json that it does not know, and so does a copy on the hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.json_object import SETTINGS, read_json_object

COMBINATIONS = ("itm", "itm+itc", "itc")
"""By the match logit, as BridgeTower's paper; by the logit plus the cosine, as BLIP; by the cosine alone."""
KEY = "bt_combine"


def kept_combination(values: Mapping[str, Any]) -> str:
    """What a config.json's unknown fields say; "itm" where they say nothing that is known."""
    kept = values.get(KEY)
    return kept if isinstance(kept, str) and kept in COMBINATIONS else COMBINATIONS[0]


def keep_combination(folder: Path, combination: str) -> None:
    """Write it into the config.json of a checkpoint's folder. Raises NotFound, BadConfig, Unwritable."""
    path = folder / "config.json"
    values = {**read_json_object(path, BadConfig, limit=SETTINGS), KEY: combination}
    write_whole(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
