"""Networks without memory, whose parameters have shapes and nothing in them until tensors are put in their place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from bt_cli.bridgetower.configuration import BridgeTowerConfig
from bt_cli.bridgetower.network import PARTS, BridgeTower

_DRAWN = {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_", "fill_", "zero_", "ones_"}


def meta_network(
    config: BridgeTowerConfig, heads: Collection[str], towers: Collection[str] | None = None
) -> BridgeTower:
    """The network with these heads and towers (None: all), every parameter on the meta device."""
    with torch.device("meta"), Undrawn():
        return BridgeTower(config, heads=heads, towers=PARTS if towers is None else towers)


class Undrawn(TorchFunctionMode):
    """Leaves out drawing initial values.

    On the meta device there is nothing to draw, yet the attempt makes torch import its symbolic algebra: three
    seconds and 80 MB that a text search would wait and pay for.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _DRAWN:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
