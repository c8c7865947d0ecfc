"""VID: make the teacher's features likely under the student's guess."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..shapes import Channels, Features, Value
from ._features import alike, empty


def vid(student: Features, teacher: Features, variance: Channels) -> Value:
    r"""Negative log-likelihood of the teacher's features under a Gaussian with one variance per channel.

    .. math:: \frac1n \sum_i \frac12 \Big( \frac{(\mu_i - t_i)^2}{v_{c(i)}} + \log v_{c(i)} \Big)

    over all n elements, c(i) the channel of element i. The constant :math:`\frac12 \log 2\pi` is left out, so
    the value may be negative.

    Args:
        student: the mean :math:`\mu`, ``(N, C, ...)``, made from the student's features by a regressor.
        teacher: features ``(N, C, ...)``, never differentiated.
        variance: v, ``(C,)``, above 0; differentiated too.

    Returns:
        A scalar; 0 without elements.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Ahn et al., CVPR 2019, arXiv:1904.05835; checked against RepDistiller.

    Example:
        >>> vid(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([1.0, 4.0]))
        tensor(0.8466)
    """
    mean, t = alike(student, teacher)
    v = variance.to(mean.dtype)
    if not mean.numel():
        return empty(mean)
    second: Tensor = _Moment.apply(mean, t)  # type: ignore[no-untyped-call]
    return (second / v + v.log()).mean() / 2


class _Moment(torch.autograd.Function):
    """Mean squared difference of each channel; backward makes one tensor of the features' size."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, teacher: Tensor) -> Tensor:
        ctx.save_for_backward(mean, teacher)
        return (mean - teacher).square_().transpose(0, 1).flatten(1).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        mean, teacher = ctx.saved_tensors
        slope = upstream * (2 * mean.shape[1] / mean.numel())
        return (mean - teacher).mul_(slope.view(-1, *[1] * (mean.dim() - 2))), None
