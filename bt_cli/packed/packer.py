"""Which kind of linear layer takes a module's place, and what is folded into its weights on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.attention import QuickGELU
from bt_cli.packed.linear import LOWEST, FloatLinear, HeadLinear, Int8Linear, PlainLinear
from bt_cli.packed.precision import onednn_here, onednn_packs

QUICK = 1.702
"""QuickGELU is silu(1.702 x) / 1.702: the factor goes into the weights before it, its inverse into those after."""


@dataclass(frozen=True)
class Packer:
    """Makes inference layers of `nn.Linear`s, for one precision ("float32", "bfloat16", "int8") and device."""

    precision: str
    device: torch.device

    def linear(
        self, linear: nn.Linear, activation: str = "none", *, input_floor: float | None = None, exact: bool = False
    ) -> nn.Module:
        """A layer for this product; `exact` keeps it out of int8. See `linear.py` for the other options."""
        return self.of(linear.weight.data, _bias(linear), activation, input_floor=input_floor, exact=exact)

    def of(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: str = "none",
        *,
        input_floor: float | None = None,
        exact: bool = False,
    ) -> nn.Module:
        """The same from tensors: weight (out, in), bias (out,)."""
        if self.device.type != "cpu" or not onednn_here():
            return PlainLinear(weight, bias, activation)
        # Rows that are no multiple of 4 have no int8 kernel of their own; no checkpoint has them.
        if self.precision == "int8" and not exact and weight.shape[1] % 4 == 0:
            return Int8Linear(weight, bias, activation, input_floor)
        if not onednn_packs(weight.dtype):
            return PlainLinear(weight, bias, activation)
        return FloatLinear(weight, bias, activation)

    def head(self, linear: nn.Linear) -> nn.Module:
        """A last product, in float32."""
        return HeadLinear(linear.weight.data, _bias(linear))

    def queries_scaled(self, qkv: nn.Linear, heads: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of packed queries, keys and values, the queries divided by sqrt(head width)."""
        width = qkv.weight.shape[0] // 3
        weight, bias = qkv.weight.data.clone(), qkv.bias.data.clone()
        weight[:width] *= (width // heads) ** -0.5
        bias[:width] *= (width // heads) ** -0.5
        return weight, bias

    def feed_forward(self, up: nn.Linear, activation: nn.Module, down: nn.Linear) -> tuple[nn.Module, nn.Module]:
        """Two layers that are `down(activation(up(x)))`, the activation inside the first."""
        name = _activation_name(activation)
        fold = QUICK if isinstance(activation, QuickGELU) else 1.0
        first = self.of(up.weight.data * fold, up.bias.data * fold, name)
        second = self.of(down.weight.data / fold, down.bias.data, input_floor=LOWEST[name])
        return first, second


def _bias(linear: nn.Linear) -> Tensor | None:
    return None if linear.bias is None else linear.bias.data


def _activation_name(activation: nn.Module) -> str:
    if isinstance(activation, nn.GELU):
        return "gelu" if activation.approximate == "none" else "gelu_tanh"
    return "relu" if isinstance(activation, nn.ReLU) else "silu"
