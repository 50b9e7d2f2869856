"""Weight products whose weights are laid out once, on loading, for the kernel that will read them thousands of times.

Three kinds share one face, `layer(states, residual=None)`: `PlainLinear` (any device), `FloatLinear` (float32 or
bfloat16 through oneDNN, bias, activation and residual inside the product) and `Int8Linear`. They compute only: no
gradients.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, tuple[str, str]] = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
    "relu": ("relu", ""),
}
"""Our names of activations to oneDNN's post-operation and its algorithm."""

LOWEST = {"gelu": -0.17, "gelu_tanh": -0.1701, "silu": -0.2785, "relu": 0.0}
"""The least value that an activation can give."""

_LEVELS = 126.0  # one less than int8 has: the factor is rounded to bfloat16, and may not push the largest value over
_ONE_SIDED_ZERO = 32
_FULL_WEIGHT, _HALF_WEIGHT = 127, 63


class PlainLinear(nn.Module):
    """`torch.nn.functional.linear`, for accelerators and for processors without oneDNN."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.activation = activation

    def forward(self, states: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., in) to (..., out): product, bias, activation, then `residual` (..., out) added."""
        made = activate(F.linear(states, self.weight, self.bias), self.activation)
        return made if residual is None else made.add_(residual)


class FloatLinear(nn.Module):
    """A float32 or bfloat16 product in oneDNN's own weight layout, 5 to 15 % faster than the row-major one."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        # oneDNN's blocked tensors know neither .to() nor .data_ptr(), so no buffers: plain attributes.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self.bias = bias
        self.post, self.algorithm = ACTIVATIONS[activation]

    def forward(self, states: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., in) to (..., out): product, bias, activation, then `residual` (..., out) added."""
        if residual is not None and self.post == "none":
            return torch.ops.mkldnn._linear_pointwise.binary(states, residual, self.packed, self.bias, "add")
        made = torch.ops.mkldnn._linear_pointwise(states, self.packed, self.bias, self.post, [], self.algorithm)
        return made if residual is None else made.add_(residual)


class Int8Linear(nn.Module):
    """int8 weights with a scale per output channel; each row of the input is quantised by its own largest value.

    A row's scale depends on that row alone, so what an image gives does not depend on what else is in its batch, and
    one outlying token coarsens no other. `input_floor` says that no input is below it (the output of a GELU):
    then most of the 256 levels go to the positive side.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, activation: str = "none", input_floor: float | None = None
    ) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        quantised, scales = quantise_weight(weight, _HALF_WEIGHT if products_saturate() else _FULL_WEIGHT)
        self.packed = torch.ops.onednn.qlinear_prepack(quantised, None)
        self.scales = scales
        self.zeros = torch.zeros(outputs, dtype=torch.int32)
        self.dtype = weight.dtype
        self.bias = None if bias is None else bias.to(weight.dtype)
        self.activation = activation
        self.inputs = inputs
        self.one_sided = input_floor is not None and input_floor > -1.0
        self.zero = _ONE_SIDED_ZERO if self.one_sided else 128
        self.levels = 254.0 - self.zero if self.one_sided else _LEVELS
        # A row whose peak is this small would let the floor fall below level 0.
        self.least = max(-(input_floor or 0.0) * self.levels / self.zero, 1e-20) if self.one_sided else 1e-20
        # A whole row, not one number: torch vectorises over one operand that is broadcast along the row, not over two.
        self.offset = torch.full((inputs,), self.zero - 128.0, dtype=weight.dtype)

    def quantise(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(M, in) to uint8 (M, in) around `self.zero`, and the scale of each row (M, 1)."""
        peak = _largest_by_row(states if self.one_sided else states.abs())
        # The factor is rounded to the activations' dtype before it is used, and its inverse taken from what was used.
        factor = (self.levels / peak.float().clamp_min_(self.least)).to(states.dtype)
        levels = torch.addcmul(self.offset, states, factor) if self.one_sided else states * factor
        # By way of int8, since torch converts to uint8 one number at a time; the highest bit adds 128.
        unsigned = levels.round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)
        return unsigned, factor.float().reciprocal_().to(states.dtype)

    def forward(self, states: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., in) to (..., out): product, bias, activation, then `residual` (..., out) added."""
        shape = states.shape[:-1]
        levels, scale = self.quantise(states.reshape(-1, self.inputs))
        made: Any = torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, self.zero, self.packed, self.scales, self.zeros, None, 1.0, 0, self.dtype, "none", [], ""
        )
        if residual is not None and self.activation == "none":
            made = torch.addcmul(residual.reshape(made.shape), made, scale)
            return (made if self.bias is None else made.add_(self.bias)).view(*shape, -1)
        made = made.mul_(scale) if self.bias is None else torch.addcmul(self.bias, made, scale)
        made = activate(made, self.activation).view(*shape, -1)
        return made if residual is None else made.add_(residual)


class HeadLinear(nn.Module):
    """A small last product, in float32 whatever comes in: scores and embeddings are made of its output."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.float(), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) to (..., out) float32."""
        return F.linear(states.float(), self.weight, self.bias)


@functools.cache
def products_saturate() -> bool:
    """Whether this processor adds pairs of int8 products in 16 bits, as those without VNNI do.

    Found out by trying: oneDNN may be held to older instructions than the processor has. Weights of half the range
    then keep every pair within 16 bits.
    """
    packed = torch.ops.onednn.qlinear_prepack(torch.full((16, 64), 127, dtype=torch.int8), None)
    ones, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int32)
    most: Any = torch.full((16, 64), 255, dtype=torch.uint8)
    made = torch.ops.onednn.qlinear_pointwise(
        most, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return bool((made != 64 * 255 * 127).any())


def quantise_weight(weight: Tensor, levels: int = _FULL_WEIGHT) -> tuple[Tensor, Tensor]:
    """(out, in) to int8 (out, in) and a float32 scale per output channel (out,), symmetric."""
    weight = weight.float()
    scales = weight.abs().amax(1).clamp_min_(1e-12) / levels
    return (weight / scales[:, None]).round_().to(torch.int8), scales


def _largest_by_row(states: Tensor) -> Tensor:
    """(M, n) to (M, 1): each row's largest value, or some negative one where there is no positive.

    The bits of positive floats have the order of integers, whose largest torch finds eight times faster.
    """
    bits = torch.int16 if states.element_size() == 2 else torch.int32
    return states.view(bits).amax(1, keepdim=True).view(states.dtype)


def activate(states: Tensor, name: str) -> Tensor:
    """The activation `name` of ACTIVATIONS, in place where torch can."""
    if name == "silu":
        return F.silu(states, inplace=True)
    if name == "relu":
        return states.relu_()
    if name == "none":
        return states
    return F.gelu(states, approximate="tanh" if name == "gelu_tanh" else "none")
