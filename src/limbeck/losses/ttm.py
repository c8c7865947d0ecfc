"""Transformed teacher matching: the temperature on the teacher's side alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Logits, Rows, Value
from ._common import Reduction, check_reduction, divergence, nothing, pair, positive, reduced, soft


def ttm(
    student: Logits, teacher: Logits, *, exponent: float = 0.1, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""KL from the teacher's power-transformed probabilities to the student's plain ones.

    With :math:`p = \mathrm{softmax}(z)`, per row

    .. math:: \sum_k q_k (\log q_k - \log p^s_k), \qquad
              q_k = \frac{(p^t_k)^\gamma}{\sum_j (p^t_j)^\gamma} = \mathrm{softmax}(\gamma z^t)_k .

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        exponent: the power gamma, above 0: one over the teacher's temperature.
        reduction: ``mean`` over rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``. No factor makes up for the exponent.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Zheng, Yang 2024, arXiv:2402.11148; checked against the authors' code (zkxufo/TTM).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> ttm(student, teacher)
        tensor(0.1470)
    """
    return _matching(student, teacher, exponent, reduction, weighted=False)


def wttm(
    student: Logits, teacher: Logits, *, exponent: float = 0.2, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""``ttm`` with a weight per sample: the more even the teacher's probabilities, the larger.

    Per row :math:`\big(\sum_k (p^t_k)^\gamma\big)\, KL(q \| p^s)`.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        exponent: the power gamma, above 0.
        reduction: ``mean`` over rows (the weights do not add up to 1), ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``. The weight lies between 1 and C^(1 - gamma).

    Raises:
        ShapeError: the shapes differ.

    Source:
        Zheng, Yang 2024, arXiv:2402.11148; checked against the authors' code (zkxufo/TTM).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> wttm(student, teacher)
        tensor(0.4139)
    """
    return _matching(student, teacher, exponent, reduction, weighted=True)


def _matching(
    student: Tensor, teacher: Tensor, exponent: float, reduction: Reduction, weighted: bool
) -> Tensor:
    positive(exponent=exponent)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student, reduction)
    log_q = soft(t, 1 / exponent)
    power = None
    if weighted:
        # log q = gamma log p - log(sum of powers), read at the most probable class.
        log_p = torch.log_softmax(t, 1).amax(1, keepdim=True)
        power = log_p.mul_(exponent).sub_(log_q.amax(1, keepdim=True)).exp_()
    rows, gradient = divergence(torch.log_softmax(s, 1), log_q)
    return reduced(student, rows, gradient, reduction, weights=power)
