"""Packed products against plain ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bt_cli.packed.linear import (
    ACTIVATIONS,
    LOWEST,
    FloatLinear,
    Int8Linear,
    PlainLinear,
    products_saturate,
    quantise_weight,
)
from bt_cli.packed.precision import onednn_packs
from bt_cli.packed.processor import processor_flags

SHAPES = [(1, 64, 32), (7, 64, 96), (325, 96, 64)]


def sample(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(rows, inputs), draw(outputs, inputs) * inputs**-0.5, draw(outputs), draw(rows, outputs)


def plain(states: Tensor, weight: Tensor, bias: Tensor | None, activation: str, residual: Tensor | None) -> Tensor:
    made = F.linear(states, weight, bias)
    made = {
        "none": lambda x: x,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "relu": F.relu,
    }[activation](made)
    return made if residual is None else made + residual


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
@torch.inference_mode()
def test_float32_equals_plain(activation: str, shape: tuple[int, int, int], with_residual: bool) -> None:
    states, weight, bias, residual = sample(*shape)
    wanted = plain(states, weight, bias, activation, residual if with_residual else None)
    for kind in (PlainLinear, FloatLinear):
        made = kind(weight, bias, activation)(states, residual if with_residual else None)
        assert (made - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.inference_mode()
def test_bfloat16_is_within_its_rounding(activation: str) -> None:
    states, weight, bias, residual = (part.bfloat16() for part in sample(50, 64, 96))
    wanted = plain(states.float(), weight.float(), bias.float(), activation, residual.float())
    kind = FloatLinear if onednn_packs(torch.bfloat16) else PlainLinear  # as the packer chooses
    made = kind(weight, bias, activation)(states, residual)
    assert made.dtype == torch.bfloat16
    assert ((made.float() - wanted).abs() <= 2**-6 * (1 + wanted.abs())).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_residual", [False, True])
@torch.inference_mode()
def test_int8_is_close(dtype: torch.dtype, shape: tuple[int, int, int], with_residual: bool) -> None:
    states, weight, bias, residual = (part.to(dtype) for part in sample(*shape))
    wanted = plain(states.float(), weight.float(), bias.float(), "none", residual.float() if with_residual else None)
    made = Int8Linear(weight, bias)(states, residual if with_residual else None)
    assert made.dtype == dtype
    error = (made.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert error < (0.02 if products_saturate() else 0.015)


@torch.inference_mode()
def test_int8_rows_do_not_see_each_other() -> None:
    states, weight, bias, _ = sample(9, 64, 32)
    layer = Int8Linear(weight, bias)
    alone = layer(states[3:4])
    states[5] *= 1e4
    assert torch.equal(layer(states)[3:4], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1.0, 300.0])
@torch.inference_mode()
def test_quantised_rows_come_back_within_a_level(dtype: torch.dtype, factor: float) -> None:
    states = (sample(40, 64, 4)[0] * factor).to(dtype)
    states[3] = 0.0
    layer = Int8Linear(torch.zeros(4, 64, dtype=dtype), None)
    levels, scale = layer.quantise(states)
    back = (levels.float() - layer.zero) * scale.float()
    # Half a level for rounding, a quarter each for the roundings of product and scale to bfloat16, and a margin.
    assert ((back - states.float()).abs() <= 1.2 * scale.float() + 1e-20).all()
    assert (back[3] == 0).all()


@pytest.mark.parametrize("name", LOWEST)
@pytest.mark.parametrize("factor", [0.05, 1.0, 40.0])
@torch.inference_mode()
def test_outputs_of_activations_use_the_levels_on_one_side(name: str, factor: float) -> None:
    states = plain(sample(60, 256, 4)[0] * factor, torch.eye(256), None, name, None).bfloat16()
    layer = Int8Linear(torch.zeros(4, 256, dtype=torch.bfloat16), None, input_floor=LOWEST[name])
    levels, scale = layer.quantise(states)
    back = (levels.float() - layer.zero) * scale.float()
    assert ((back - states.float()).abs() <= 1.5 * scale.float()).all()
    if factor == 40.0:
        assert int(levels.max()) > 250


@torch.inference_mode()
def test_weights_are_quantised_by_output_channel() -> None:
    weight = torch.tensor([[1.0, -127.0, 0.4], [0.01, 0.0, -0.0254]])
    levels, scales = quantise_weight(weight)
    assert levels.tolist() == [[1, -127, 0], [50, 0, -127]]
    assert torch.allclose(scales, torch.tensor([1.0, 0.0002]))


@torch.inference_mode()
def test_planted_fault_is_seen() -> None:
    """The tolerance of the int8 test is tight enough for a scale that is one channel off."""
    states, weight, bias, _ = sample(50, 64, 96)
    layer: Any = Int8Linear(weight, bias)
    layer.scales = layer.scales.roll(1)
    wanted = plain(states, weight, bias, "none", None)
    error = (layer(states) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert error > 0.03


def test_old_instructions_do_not_saturate() -> None:
    """Held to AVX2, where pairs of products are added in 16 bits, int8 still gives the right numbers."""
    code = (
        "import torch; from bt_cli.packed.linear import Int8Linear, products_saturate\n"
        "states = torch.randn(64, 256).abs() + 1; weight = torch.randn(32, 256).abs() + 1\n"
        "made, wanted = Int8Linear(weight, None)(states), states @ weight.T\n"
        "print(products_saturate(), float(((made - wanted).abs() / wanted).max()) < 0.02)"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    saturates, right = ran.stdout.split()
    assert right == "True"
    if platform.machine() in ("x86_64", "AMD64") and "avx_vnni" not in processor_flags():
        assert saturates == "True"
