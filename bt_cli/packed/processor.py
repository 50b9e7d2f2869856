"""What the processor says that it can do."""

from __future__ import annotations

import os
from pathlib import Path

_ISA_BEFORE_AVX512 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"})
_ISA_BEFORE_BF16 = _ISA_BEFORE_AVX512 | {"AVX512_CORE", "AVX512_CORE_VNNI"}
"""Names by which oneDNN calls sets of instructions, in its documentation of ONEDNN_MAX_CPU_ISA."""


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
    import torch

    asked = {
        "amx_bf16": "_is_amx_tile_supported",
        "avx512_bf16": "_is_avx512_bf16_supported",
        "avx512_vnni": "_is_vnni_supported",
        "avx2": "_is_avx2_supported",
    }
    return frozenset(flag for flag, name in asked.items() if getattr(torch.cpu, name, bool)())
