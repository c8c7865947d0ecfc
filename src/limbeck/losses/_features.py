"""What losses on features share: checks, precision, and sums over channels that keep little for backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..connectors import match
from ..errors import ShapeError


def full(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one precision, float32 at least; the teacher detached, the student still in its graph."""
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """``full`` for features of one shape.

    Raises:
        ShapeError: the shapes differ; both are named.
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            "student and teacher features do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same shape for both",
            fix="put limbeck.connectors.Connector between them",
        )
    return full(student, teacher)


def maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """``full`` for maps ``(N, C, H, W)`` of one batch, the larger one average-pooled to the smaller one's size.

    Raises:
        ShapeError: one is no map, or they have different batches; both shapes are named.
    """
    if student.dim() != 4 or teacher.dim() != 4 or len(student) != len(teacher):
        raise ShapeError(
            "student and teacher maps do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="(N, C, H, W) for both, with one N",
            fix="bring tokens into a grid with limbeck.connectors.as_map",
        )
    return match(*full(student, teacher))


def empty(student: Tensor) -> Tensor:
    """A 0 that is connected to the graph of a student without rows."""
    return student.sum()


class _Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, power: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.power = power
        return (x.square() if power == 2 else x.pow(power)).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        scale = (upstream * (ctx.power / x.shape[1])).unsqueeze(1)
        return (x * scale if ctx.power == 2 else x.pow(ctx.power - 1).mul_(scale)), None


def energy(x: Tensor, power: float = 2.0) -> Tensor:
    """Mean over channels of a power, ``(N, C, ...) -> (N, ...)``; backward makes one tensor of x's size.

    Example:
        >>> energy(torch.tensor([[1.0, 3.0]]))
        tensor([5.])
    """
    return _Energy.apply(x, power)  # type: ignore[no-any-return,no-untyped-call]
