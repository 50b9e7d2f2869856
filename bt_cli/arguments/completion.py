"""What the shell offers for values that are chosen from a list: checkpoints, devices, precisions."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence


def checkpoints(incomplete: str) -> list[str]:
    """Names that `--model` takes and that begin so: bundled, on this machine, the authors'; then folders."""
    from bt_cli.hub.hub_cache import cached_names
    from bt_cli.hub.model_names import BUNDLED, OFFICIAL

    names = list(dict.fromkeys([*BUNDLED, *cached_names(), *OFFICIAL]))
    folders = sorted(glob.glob(glob.escape(os.path.expanduser(incomplete)) + "*/")) if incomplete else []
    return [*among(names)(incomplete), *folders]


def among(names: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion that offers those of some names that begin so."""

    def beginning(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return beginning
