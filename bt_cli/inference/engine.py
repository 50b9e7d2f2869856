"""What computes, and how to know it without torch where that is certain."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
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
_BUILT = ("include", "ATen", "Config.h")
LARGEST_HEADER = 1 << 16


class Engine(NamedTuple):
    """What computes: the device's name, and the precision."""

    device: str
    precision: str


def foreseen_engine(device: str, dtype: str) -> Engine | None:
    """What torch would choose for these options; None where only torch can say, or would refuse them.

    On Linux without an accelerator's driver, or with a torch built for the CPU alone, it is the CPU; there "auto" is
    float32 unless the processor has instructions for bfloat16 and torch was built with oneDNN, which uses them.
    """
    if sys.platform != "linux" or not (device == "cpu" or (device == "auto" and _only_cpu())):
        return None
    if dtype == "auto":
        fast = bool(usable_flags() & {"amx_bf16", "avx512_bf16"})
        built = _built_with_onednn() if fast else False
        return None if built is None else Engine("cpu", "bfloat16" if built else "float32")
    return Engine("cpu", dtype) if dtype in ("float32", "bfloat16", "int8") else None


def _only_cpu() -> bool:
    try:
        built_for = importlib.metadata.version("torch").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return False  # put there by other means: it speaks for itself
    return built_for == "cpu" or not any(map(os.path.exists, _ACCELERATORS))


def _built_with_onednn() -> bool | None:
    """What the header says with which torch was built; None where it is not there to be read."""
    found = importlib.util.find_spec("torch")
    for folder in found.submodule_search_locations or () if found else ():
        with contextlib.suppress(OSError), open(os.path.join(folder, *_BUILT), encoding="utf-8") as header:
            said = re.search(r"^#define AT_MKLDNN_ENABLED\(\) ([01])$", header.read(LARGEST_HEADER), re.MULTILINE)
            return None if said is None else said[1] == "1"
    return None
