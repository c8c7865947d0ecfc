"""AB: the student's neurons shall be active where the teacher's are."""

from __future__ import annotations

import torch

from ..shapes import Features, Rows, Value
from ._common import Reduction, check_reduction, known, positive, wants_gradient
from ._features import alike


def ab(
    student: Features, teacher: Features, *, margin: float = 1.0, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""Squared hinge on the side of the activation boundary that the teacher is on.

    Over all elements of a sample's pre-activations,

    .. math:: \sum_i \max(0, m - \sigma_i s_i)^2, \quad \sigma_i = 1 \text{ where } t_i > 0, \text{ else } -1 .

    Args:
        student: pre-activations ``(N, ...)``, already brought to the teacher's shape.
        teacher: pre-activations ``(N, ...)``, never differentiated; only their signs count, and 0 is inactive.
        margin: how far on the right side is far enough.
        reduction: ``mean`` over samples of their sums, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Heo et al., AAAI 2019, arXiv:1811.03233; checked against RepDistiller (whose factor 3/1000 and stage
        weights are the method's), torchdistill (``mean``) and Knowledge-Distillation-Zoo (mean over elements).

    Example:
        >>> ab(torch.tensor([[0.5, 3.0]]), torch.tensor([[-2.0, 0.1]]))
        tensor(2.2500)
    """
    positive(margin=margin)
    check_reduction(reduction)
    s, t = alike(student, teacher)
    side = torch.where(t > 0, 1.0, -1.0).to(s.dtype)
    hinge = (side * s.detach()).neg_().add_(margin).clamp_(min=0)
    value = hinge.flatten(1).square().sum(1) if reduction == "none" else hinge.flatten().dot(hinge.flatten())
    n = max(len(s), 1) if reduction == "mean" else 1
    gradient = hinge.mul_(side).mul_(-2 / n) if wants_gradient(s) else None
    return known(s, value / n, gradient)
