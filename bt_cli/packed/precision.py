"""In which numbers the network computes, chosen by what the processor is fast at."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bt_cli.errors import NoDevice

PRECISIONS = ("float32", "bfloat16", "int8")

_ISA_BEFORE_AVX512 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
_ISA_BEFORE_BF16 = _ISA_BEFORE_AVX512 | {"AVX512_CORE", "AVX512_CORE_VNNI"}
"""Names by which oneDNN calls sets of instructions, in its documentation of ONEDNN_MAX_CPU_ISA."""


def choose_precision(name: str, device: torch.device) -> str:
    """ "float32", "bfloat16" or "int8" for `name`, which may be "auto".

    "auto" is bfloat16 on CUDA devices that have it and on processors with AMX or AVX512-BF16, float32 elsewhere. int8
    is never chosen unasked: it costs some quality. Raises NoDevice for int8 on an accelerator, or an unknown name.
    """
    if name == "auto":
        return "bfloat16" if fast_bfloat16(device) else "float32"
    if name not in PRECISIONS:
        raise NoDevice(f"{name!r} is no precision; there are auto, {', '.join(PRECISIONS)}")
    if name == "int8" and device.type != "cpu":
        raise NoDevice(f"int8 runs on the CPU only; on {device} use --dtype bfloat16")
    return name


def activation_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of hidden states; int8 keeps them in bfloat16 where that is fast, else in float32."""
    if precision == "int8":
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products have instructions of their own on `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and onednn_here() and bool(usable_flags() & {"amx_bf16", "avx512_bf16"})


def onednn_here() -> bool:
    """Whether this torch has oneDNN, whose kernels the packed layers call."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN lays out weights of this dtype here; bfloat16 it refuses on processors without AVX-512 or
    AVX-NE-CONVERT, where torch's own product, slow as it is, still works."""
    return onednn_here() and (dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def usable_flags() -> frozenset[str]:
    """The processor's flags without those that oneDNN was told not to use.

    ONEDNN_MAX_CPU_ISA names the newest set of instructions that it may take, such as AVX2: bfloat16 is then slow on any
    processor, and what another processor would do can be tried on this one.
    """
    held_to = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()
    flags = processor_flags()
    if held_to in ("ALL", "DEFAULT"):
        return flags
    barred = {flag for flag in flags if flag.startswith("amx") and "AMX" not in held_to}
    if held_to in _ISA_BEFORE_BF16:
        barred.add("avx512_bf16")
    if held_to in _ISA_BEFORE_BF16 - {"AVX512_CORE_VNNI"}:
        barred.add("avx512_vnni")
    if held_to in _ISA_BEFORE_AVX512:
        barred |= {flag for flag in flags if flag.startswith("avx512")}
    return flags - barred


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's flags in the kernel's spelling; without its file, torch's answers to the few that we ask for."""
    try:
        text = cpuinfo.read_text("ascii", "replace")
    except OSError:
        return _flags_by_torch()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return _flags_by_torch()


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor as the kernel names it."""
    import platform

    try:
        text = cpuinfo.read_text("ascii", "replace")
    except OSError:
        return platform.processor() or platform.machine()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _flags_by_torch() -> frozenset[str]:
    asked = {
        "amx_bf16": "_is_amx_tile_supported",
        "avx512_bf16": "_is_avx512_bf16_supported",
        "avx512_vnni": "_is_vnni_supported",
        "avx2": "_is_avx2_supported",
    }
    return frozenset(flag for flag, name in asked.items() if getattr(torch.cpu, name, bool)())
