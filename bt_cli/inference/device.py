"""Where the network runs: the processor, or an accelerator that torch knows."""

from __future__ import annotations

import ctypes
import sys

import torch

from bt_cli.errors import Misuse, NoDevice

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30

MOST_THREADS = 1024
"""Threads of the network that can be asked for."""


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "cuda:N" or "mps"; "auto" takes CUDA, then MPS, then the CPU.

    Raises NoDevice for one that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise NoDevice(f"{name!r} is no device; there are auto, cpu, cuda, cuda:N and mps") from None
    if device.type == "cuda":
        return _cuda(name, device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NoDevice("this machine has no MPS device; use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise NoDevice(f"bt does not run on {name!r}; there are auto, cpu, cuda, cuda:N and mps")
    return device


def _cuda(name: str, device: torch.device) -> torch.device:
    if not torch.cuda.is_available():
        raise NoDevice(f"{name}: no CUDA device here, or a torch built without CUDA; use --device cpu")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise NoDevice(f"{name}: this machine has {torch.cuda.device_count()} CUDA device(s), counted from 0")
    return torch.device("cuda", index)


def set_threads(threads: int | None) -> None:
    """Let torch compute in so many threads on the CPU, in the whole process; None leaves it at all cores.

    Raises Misuse for more than `MOST_THREADS`: OpenMP ends the process where it can't start them all.
    """
    if threads is not None:
        if threads > MOST_THREADS:
            raise Misuse(f"--threads {threads} is more than {MOST_THREADS:,}; no more than there are cores are of use")
        torch.set_num_threads(threads)


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks for the next layer instead of handing them back to the kernel.

    Activations of some megabytes come and go in every layer; mapped afresh, each costs its page faults. Returns whether
    the C library took the settings (other platforms than Linux with glibc: no). What is kept is reused, so the peak
    does not grow.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))
