"""What losses on the relations within a batch share: every gradient is a matrix between samples times the features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ShapeError
from ._common import wide


def samples(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Detached features of both networks as one vector for each sample, in one precision, float32 at least.

    Raises:
        ShapeError: no batches, or batches of different size; both shapes are named.
    """
    if min(student.dim(), teacher.dim()) < 2 or len(student) != len(teacher):
        raise ShapeError(
            "student and teacher features do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="(N, ...) for both, with one N",
        )
    return wide(student, teacher.dtype).flatten(1), wide(teacher, student.dtype).flatten(1)


def gram(x: Tensor) -> Tensor:
    """Inner products between the samples, ``(N, D) -> (N, N)``."""
    return x @ x.T


class _Between(torch.autograd.Function):
    """A value whose gradient is ``matrix @ features``, multiplied out when it is asked for."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, value: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(student, matrix)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        student, matrix = ctx.saved_tensors
        found = (matrix * upstream) @ student.to(matrix.dtype).flatten(1)
        return found.view(student.shape).to(student.dtype), None, None


def between(student: Tensor, value: Tensor, matrix: Tensor | None) -> Tensor:
    """Give ``value`` the gradient ``matrix @ student``, samples as rows; None: no gradient is wanted."""
    if matrix is None:
        return value
    return _Between.apply(student, value, matrix)  # type: ignore[no-any-return, no-untyped-call]
