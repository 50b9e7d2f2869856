"""What computes, and how to know it without torch where that is certain."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import NamedTuple

from bt_cli.packed.processor import usable_flags

_ACCELERATORS = (
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/dev/nvidia-uvm",
    "/dev/kfd",
    "/dev/dxg",
    "/dev/nvhost-gpu",
    "/dev/nvmap",
)
"""What a driver of NVIDIA (on Jetson boards and under WSL too) or AMD makes; torch finds no accelerator without."""


class Engine(NamedTuple):
    """What computes: the device's name, and the precision."""

    device: str
    precision: str


def foreseen_engine(device: str, dtype: str) -> Engine | None:
    """What torch would choose for these options; None where only torch can say, or would refuse them.

    On Linux without an accelerator's driver, or with a torch built for the CPU alone, it is the CPU; there "auto" is
    float32 unless the processor has instructions for bfloat16, of which torch has to say whether it was built for them.
    """
    if sys.platform != "linux" or not (device == "cpu" or (device == "auto" and _only_cpu())):
        return None
    if dtype == "auto":
        return None if usable_flags() & {"amx_bf16", "avx512_bf16"} else Engine("cpu", "float32")
    return Engine("cpu", dtype) if dtype in ("float32", "bfloat16", "int8") else None


def _only_cpu() -> bool:
    try:
        built_for = importlib.metadata.version("torch").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return False  # put there by other means: it speaks for itself
    return built_for == "cpu" or not any(map(os.path.exists, _ACCELERATORS))
