"""What this machine's processor can do at best: linear layers of 768 x 3072 in each precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from bt_cli.packed.linear import Int8Linear
from bt_cli.packed.packer import Packer
from bt_cli.packed.precision import activation_dtype

ROWS, INPUTS, OUTPUTS = 1300, 768, 3072
CPU = torch.device("cpu")
FLOP = 2 * ROWS * INPUTS * OUTPUTS


def kernels() -> dict[str, Callable[[], object]]:
    """The bare product in each precision, packed as bt packs it; int8 without its quantisation."""
    made: dict[str, Callable[[], object]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        states, weight = torch.randn(ROWS, INPUTS).to(dtype), torch.randn(OUTPUTS, INPUTS).to(dtype)
        layer = Packer(name, CPU).of(weight, torch.zeros(OUTPUTS, dtype=dtype))
        made[name] = lambda layer=layer, states=states: layer(states)  # type: ignore[misc]
    dtype = activation_dtype("int8", CPU)
    eight = Int8Linear(torch.randn(OUTPUTS, INPUTS).to(dtype), None)
    levels = torch.randint(0, 255, (ROWS, INPUTS), dtype=torch.uint8)
    made["int8"] = lambda: torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, 128, eight.packed, eight.scales, eight.zeros, None, 1.0, 0, dtype, "none", [], ""
    )
    return made


def gflops(rounds: int = 7, repeats: int = 4) -> dict[str, float]:
    """GFLOP/s by precision, median of `rounds`, taken in turn, on as many threads as torch has."""
    with torch.inference_mode():
        products = kernels()
        taken: dict[str, list[float]] = {name: [] for name in products}
        for round_ in range(rounds + 1):
            for name, product in products.items():
                start = time.perf_counter()
                for _ in range(repeats):
                    product()
                if round_:  # the first warms up
                    taken[name].append((time.perf_counter() - start) / repeats)
    return {name: FLOP / statistics.median(times) / 1e9 for name, times in taken.items()}
