"""MMD: match the distribution of features, without pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Value
from ._common import nothing, wide


def mmd(student: Tensor, teacher: Tensor, *, kernels: int = 5, factor: float = 2.0) -> Value:
    r"""Squared maximum mean discrepancy with a sum of Gaussian kernels.

    .. math:: \overline{K}(x, x) + \overline{K}(y, y) - 2 \overline{K}(x, y),\quad
        K(a, b) = \sum_{i=0}^{n-1} \exp\big(-\|a - b\|^2 / (w f^{\,i - \lfloor n/2 \rfloor})\big)

    with w the mean squared distance between different points of both together, which gets no gradient, and the bar
    a mean over all pairs.

    Args:
        student: ``(N, D)``.
        teacher: ``(M, D)``, never differentiated.
        kernels: how many.
        factor: ratio of one bandwidth to the next.

    Returns:
        A scalar, at least 0; 0 for a side without rows.

    Raises:
        ShapeError: the points are not of one dimension.

    Source:
        Gretton et al., JMLR 2012; with these kernels the option for T-Net in MT-PKDOT's public code.

    Example:
        >>> x = torch.eye(2)
        >>> mmd(x, x), mmd(x, x + 1).round(decimals=4)
        (tensor(0.), tensor(3.5649))
    """
    if student.dim() != 2 or teacher.dim() != 2 or student.shape[1] != teacher.shape[1]:
        raise ShapeError(
            "these points cannot be compared",
            got=f"{tuple(student.shape)} and {tuple(teacher.shape)}",
            expected="(N, D) and (M, D)",
        )
    if not len(student) or not len(teacher):
        return nothing(student)
    y = wide(teacher, student.dtype)
    both = torch.cat([student.to(y.dtype), y])
    square = both.square().sum(1)
    apart = (square[:, None] + square - 2 * both @ both.T).clamp(min=0)
    count = len(both)
    width = (apart.detach().sum() / (count * (count - 1))).clamp(min=1e-12)
    kernel = torch.stack(
        [torch.exp(-apart / (width * factor ** (i - kernels // 2))) for i in range(kernels)]
    ).sum(0)
    n = len(student)
    return (kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()).clamp(min=0)
