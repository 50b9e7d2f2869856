"""Stored half precision as float32, at the speed of memory: numpy's own cast of float16 goes number by number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 14
"""Numbers widened at a time: 64 KiB of float32, which stay in the processor's first caches from pass to pass."""
_SIGN_AND_REST = np.int32(-0x70000001)  # all bits but the three copies of the sign behind the sign
_NOT_FINITE, _SIGN = 0x7C00, 0x8000  # bits of float16: the infinity, below NaNs, and the sign before either
_EXPONENT = np.float32(2.0**112)  # float32 counts exponents from -127, float16 from -15


def widen_float16(stored: NDArray[np.float16], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Finite float16 numbers as float32 of the same shape, exactly, subnormal ones too; `out` is contiguous.

    What is not finite becomes a number of 65,536 or more, which float16 does not have: see `finite_float16`.
    """
    source = np.ascontiguousarray(stored).view(np.int16).reshape(-1)
    wide = np.empty(stored.shape, np.float32) if out is None else out
    flat = wide.reshape(-1)
    for first in range(0, len(flat), PIECE):
        piece = flat[first : first + PIECE]
        bits = piece.view(np.int32)
        bits[...] = source[first : first + PIECE]
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _SIGN_AND_REST, out=bits)
        np.multiply(piece, _EXPONENT, out=piece)
    return wide


def as_float32(stored: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors as they are stored, finite numbers all, as float32 of the same shape."""
    if stored.dtype == np.float16:
        return widen_float16(np.asarray(stored, np.float16))
    return np.asarray(stored, np.float32)


def finite_float16(stored: NDArray[np.float16]) -> bool:
    """Whether all numbers are finite; numpy's own answer is ten times as slow."""
    if not stored.size:
        return True
    bits = stored.view(np.int16)
    return bool(bits.max() < _NOT_FINITE and bits.view(np.uint16).max() < _NOT_FINITE + _SIGN)


def widen_bfloat16(stored: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 numbers, given as their 16 bits, as float32 of the same shape, exactly."""
    wide = stored.astype(np.uint32)
    np.left_shift(wide, 16, out=wide)
    return wide.view(np.float32)
