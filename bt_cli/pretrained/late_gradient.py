"""Gradients of results that a network without gradients has computed: the plain network runs when they are asked for.

Published code calls models in eval mode without `torch.no_grad()`, and rarely calls `backward`. Its results come from
the packed network and still belong to a graph; only a backward pass pays for computing the activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Compute = Callable[[], tuple[Tensor, ...]]


def with_late_gradient(results: Sequence[Tensor], compute: Compute, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`results` as part of the graph of `inputs`, parameters and others.

    `compute` gives the same results, to rounding, from these inputs with a graph; it is called at most once for each
    backward pass.
    """
    return _LateGradient.apply(tuple(results), compute, *inputs)


class _LateGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, results: tuple[Tensor, ...], compute: Compute, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.compute, ctx.inputs = compute, inputs
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises where an input was written over meanwhile, as any other backward pass does
        wanted = [each for each, needed in zip(ctx.inputs, ctx.needs_input_grad[2:], strict=True) if needed]
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            results = ctx.compute()
        pairs = [(each, given) for each, given in zip(results, gradients, strict=True) if given is not None]
        made = iter(
            torch.autograd.grad(
                [each for each, _ in pairs],
                wanted,
                [given for _, given in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
        return None, None, *(next(made) if needed else None for needed in ctx.needs_input_grad[2:])
