"""Logit standardisation: zero mean and unit spread in every row, before any loss on logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..shapes import Logits
from ._common import positive, rows_and_classes, wide


def standardise(logits: Logits, *, eps: float = 1e-7) -> Logits:
    r"""Standardise each row, so that student and teacher need not agree in the size of their logits.

    .. math:: \tilde z_k = \frac{z_k - \bar z}{\sigma(z) + \epsilon}, \qquad
              \sigma(z)^2 = \frac{1}{C - 1} \sum_k (z_k - \bar z)^2 .

    Hand both networks' standardised logits to a loss; in a run, ``standardise: true`` in a method's entry does
    it. With a low temperature (the authors' 2) and a weight about ten times as large (their 9 for KD).

    Args:
        logits: ``(N, C)`` of either network; the gradient passes the mean and the spread.
        eps: added to the spread.

    Returns:
        ``(N, C)`` in float32 at least. A row of equal logits gives zeros, with a slope of 1 / eps. Two classes
        give ±0.707 whatever the logits, without a gradient; one class gives zeros.

    Raises:
        ShapeError: the logits are no matrix.

    Source:
        Sun et al. 2024, arXiv:2403.01427; checked against the authors' code for KD, DKD and MLKD, and
        torchdistill's ``LogitStdKDLoss``.

    Example:
        >>> standardise(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 300.0]]))
        tensor([[-1.0000,  0.0000,  1.0000],
                [-0.5774, -0.5774,  1.1547]])
    """
    positive(eps=eps)
    rows_and_classes(logits)
    result: Tensor = _Standardised.apply(logits, eps)  # type: ignore[no-untyped-call]
    return result


class _Standardised(torch.autograd.Function):
    """Standardised rows, with the derivative from the result itself."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, eps: float) -> Tensor:
        z = wide(logits)
        classes = z.shape[1]
        y = z - z.mean(1, keepdim=True) if classes else z.clone()
        spread = torch.linalg.vector_norm(y, dim=1, keepdim=True).div_(max(classes - 1, 1) ** 0.5)
        size = spread + eps
        y /= size
        ctx.save_for_backward(y, size, size / spread.clamp_(min=torch.finfo(y.dtype).tiny))
        ctx.dtype = logits.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        y, size, ratio = ctx.saved_tensors
        classes = y.shape[1]
        along = (upstream * y).sum(1, keepdim=True).mul_(ratio).div_(max(classes - 1, 1))
        found = torch.addcmul(upstream, y, along, value=-1)
        if classes:
            found -= upstream.mean(1, keepdim=True)
        return found.div_(size).to(ctx.dtype), None
