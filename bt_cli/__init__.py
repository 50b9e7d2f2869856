"""BridgeTower at the shell and from Python: `bt_cli.load("tiny")` gives a model that encodes, scores and fills masks.

Importing the package costs nothing: torch and the rest are imported when a name below is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bt_cli.version import __version__

if TYPE_CHECKING:
    from bt_cli.bridgetower.configuration import BridgeTowerConfig
    from bt_cli.inference.model import Model, load

__all__ = ["BridgeTowerConfig", "Model", "__version__", "load"]

HOMES = {
    "BridgeTowerConfig": "bt_cli.bridgetower.configuration",
    "Model": "bt_cli.inference.model",
    "load": "bt_cli.inference.model",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is asked for (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'bt_cli' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
