"""Data parallel training: the processes that torchrun started, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process's number and how many there are; one process alone needs no process group."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> tuple[Ranks, torch.device]:
        """Join the others if torchrun started this process (RANK and WORLD_SIZE tell), else stand alone.

        Returns this process's place and its own device: each process of a machine takes the next GPU.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world < 2 or "RANK" not in os.environ:
            return cls(), device
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size()), device

    def leave(self) -> None:
        """Close the process group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This rank's rows of a batch of `total` over all ranks."""
        share = total // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) of every rank one below the other, (world * n, ...). Gradients flow back to the rank they belong
        to."""
        return rows if self.world == 1 else _Gather.apply(rows, self.rank, self.world)

    def total(self, count: Tensor) -> Tensor:
        """The sum over ranks, without a gradient."""
        if self.world > 1:
            count = count.clone()
            dist.all_reduce(count)
        return count

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over ranks, all in one message."""
        if self.world == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


class _Gather(torch.autograd.Function):
    """all_gather; the way back sums what every rank's loss says about this rank's rows."""

    @staticmethod
    def forward(ctx, rows: Tensor, rank: int, world: int) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.rank, ctx.count = rank, len(rows)
        parts = [torch.empty_like(rows) for _ in range(world)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rank * ctx.count : (ctx.rank + 1) * ctx.count], None, None
