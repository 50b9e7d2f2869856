"""AdamW over float32 masters, while the network computes in another precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bt_cli.training.recipe import Rates

TOWERS = ("text_tower.", "vision_tower.")
HEADS = ("itm", "mlm", "itc", "logit_scale")


def parameter_kind(name: str) -> str:
    """`towers`, `cross` (`cross_modal*` in the hub's names: bridges, cross layers, poolers) or `heads`."""
    if name.startswith(TOWERS):
        return "towers"
    return "heads" if name.startswith(HEADS) else "cross"


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to biases, LayerNorms and other vectors."""
    return parameter.ndim > 1 and not name.endswith("bias")


class MasterWeights:
    """The weights that are trained: float32, beside the network's own in `dtype`, with AdamW's moments.

    Casting once a step is cheaper than autocast, which casts a weight each time it is used, and an update smaller than
    bfloat16's rounding is not lost. A parameter that no loss reached in a step is left as it is.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, rates: Rates) -> None:
        """Takes the network's float32 weights over and casts the network to `dtype`."""
        self.names = [name for name, _ in network.named_parameters()]
        self.masters = [parameter.detach().float().clone() for parameter in network.parameters()]
        network.to(dtype)
        self.working = list(network.parameters())
        self.sums: list[Tensor | None] = [None] * len(self.names)
        self.optimizer = self._optimizer(rates)

    def _optimizer(self, rates: Rates) -> torch.optim.AdamW:
        groups: dict[tuple[str, bool], list[Tensor]] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            groups.setdefault((parameter_kind(name), decays(name, master)), []).append(master)
        fused = all(master.device.type in ("cpu", "cuda") for master in self.masters)
        return torch.optim.AdamW(
            [{"params": masters, "kind": kind, "decays": decay} for (kind, decay), masters in groups.items()],
            lr=rates.learning_rate or 0.0,  # set anew for every step
            betas=rates.betas,
            eps=rates.epsilon,
            fused=fused,
        )

    def set_rates(self, rates: Rates, learning_rate: float) -> None:
        """The towers' rate of this step; the groups' multipliers and weight decay come from `rates`."""
        multipliers = {"towers": 1.0, "cross": rates.cross_multiplier, "heads": rates.head_multiplier}
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * multipliers[group["kind"]]
            group["weight_decay"] = rates.weight_decay if group["decays"] else 0.0
            group["betas"], group["eps"] = tuple(rates.betas), rates.epsilon

    def collect(self) -> None:
        """Add the network's gradients to the float32 sums and clear them: once per backward pass."""
        for index, parameter in enumerate(self.working):
            if parameter.grad is None:
                continue
            total = self.sums[index]
            self.sums[index] = parameter.grad.float() if total is None else total.add_(parameter.grad)
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The collected gradients, in the order of the parameters that a loss reached."""
        return [total for total in self.sums if total is not None]

    @torch.no_grad()
    def clamp(self, name: str, low: float, high: float) -> None:
        """Keep a parameter within bounds, where the network has it."""
        if name in self.names:
            index = self.names.index(name)
            self.masters[index].clamp_(low, high)
            self.working[index].copy_(self.masters[index])

    def step(self, clip: float = 0.0) -> float:
        """Update masters and network by the collected gradients; returns the norm of the gradient before clipping.

        Nothing is updated where the norm is no finite number: that one step would spoil every weight.
        """
        reached = [index for index, total in enumerate(self.sums) if total is not None]
        gradients = self.gradients()
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())
        if not math.isfinite(norm):
            return float(norm)
        if clip:
            torch._foreach_mul_(gradients, float((clip / norm.clamp(min=1e-12)).clamp(max=1.0)))
        for index in reached:
            self.masters[index].grad = self.sums[index]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.sums = [None] * len(self.sums)
        self.publish()
        return float(norm)

    @torch.no_grad()
    def publish(self) -> None:
        """Cast the masters into the network."""
        torch._foreach_copy_([parameter.data for parameter in self.working], self.masters)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        tensors: dict[str, Tensor] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            tensors[f"weight/{name}"] = master
            for key, value in self.optimizer.state.get(master, {}).items():
                tensors[f"{key}/{name}"] = value.reshape(value.shape)
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(tensors[f"weight/{name}"])
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"{key}/{name}" in tensors:
                    value = tensors[f"{key}/{name}"]
                    state[key] = value.to(torch.float32 if key == "step" else master.dtype, copy=True).to(master.device)
            if state:
                self.optimizer.state[master] = state
        self.publish()

    def weights(self) -> dict[str, Tensor]:
        """The float32 weights by the network's parameter names."""
        return dict(zip(self.names, self.masters, strict=True))
