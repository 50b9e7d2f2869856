"""What the shell offers for values that are chosen from a list: checkpoints, devices, precisions."""

from __future__ import annotations

import glob
import os


def checkpoints(incomplete: str) -> list[str]:
    """Names that `--model` takes and that begin so: bundled, on this machine, the authors'; then folders."""
    from bt_cli.checkpoints.hub_cache import cached_names
    from bt_cli.checkpoints.model_names import BUNDLED, OFFICIAL

    names = dict.fromkeys([*BUNDLED, *cached_names(), *OFFICIAL])
    folders = sorted(glob.glob(glob.escape(os.path.expanduser(incomplete)) + "*/")) if incomplete else []
    return [*_beginning(incomplete, list(names)), *folders]


def devices(incomplete: str) -> list[str]:
    """Devices that begin so; which of them this machine has would take an import of torch to know."""
    return _beginning(incomplete, ["auto", "cpu", "cuda", "cuda:0", "mps"])


def precisions(incomplete: str) -> list[str]:
    """Precisions that begin so."""
    return _beginning(incomplete, ["auto", "float32", "bfloat16", "int8"])


def _beginning(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
