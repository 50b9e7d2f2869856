"""In which numbers the network computes, chosen by what the processor is fast at."""

from __future__ import annotations

import torch

from bt_cli.errors import NoDevice
from bt_cli.packed.processor import usable_flags

PRECISIONS = ("float32", "bfloat16", "int8")


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
