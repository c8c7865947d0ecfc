"""The global batch: rows of all processes, with gradients."""

from __future__ import annotations

import atexit
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def world() -> int:
    """Number of processes; 1 outside a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 outside a distributed run."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@cache
def leave_at_exit() -> None:
    """Leave the process group before the interpreter ends.

    The group's threads hold tensors that Python owns. One that lets go of the last of them while the
    interpreter is being taken down aborts the process, after all its work is done.
    """
    atexit.register(_leave)


def _leave() -> None:
    if world() > 1:
        dist.destroy_process_group()


class _AllGather(torch.autograd.Function):
    """Concatenate every process's rows; the gradient of a row is the sum over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = x.shape[0]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, ``(N, ...) -> (world * N, ...)``.

    Every process must hold the same number of rows. When every process computes the same loss from the
    gathered rows, averaging parameter gradients over processes gives the gradient of that loss: each row's
    gradient arrives ``world`` times and is divided by ``world`` again.

    Returns:
        ``x`` itself outside a distributed run.

    Example:
        >>> gather(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    if world() == 1:
        return x
    if x.requires_grad:
        gathered: Tensor = _AllGather.apply(x)  # type: ignore[no-untyped-call]
        return gathered
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def total_per_process(count: Tensor) -> Tensor:
    """The mean over processes of a count: what each divides its sum by, so that gradients average to the whole's."""
    if world() == 1:
        return count
    total = count.clone()
    dist.all_reduce(total)
    return total / world()
