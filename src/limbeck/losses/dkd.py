"""Decoupled knowledge distillation: the target class apart from all others."""

from __future__ import annotations

import torch

from ..shapes import Labels, Logits, Rows, Value
from ._common import Reduction, check_reduction, nothing, pair, positive, reduced, targets
from ._target import binary, split


def dkd(
    student: Logits,
    teacher: Logits,
    labels: Labels,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""Two divergences: target class against the rest, and the rest among themselves.

    With :math:`b = (p_y, 1 - p_y)` and :math:`q = \mathrm{softmax}_{k \ne y}(z_k / T)`, per row

    .. math:: T^2 \big( \alpha\, KL(b^t \| b^s) + \beta\, KL(q^t \| q^s) \big).

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        alpha: weight of the target part.
        beta: weight of the rest.
        temperature: divides the logits, above 0.
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row. With two classes the
        second part is 0.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.

    Source:
        Zhao et al. 2022, arXiv:2203.08679; checked against mdistiller ``dkd_loss``.

    Deviation:
        The target's log-odds come from ``logsumexp``, so that nothing is lost where the released code takes
        the logarithm of an underflowed sum (NaN in float32 for logits of several hundred).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> dkd(student, teacher, torch.tensor([0]))
        tensor(4.3602)
        >>> dkd(student, teacher, torch.tensor([0]), beta=0.0)
        tensor(0.4818)
    """
    positive(temperature=temperature)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    index, given = targets(labels, *student.shape)
    if student.shape[1] < 2 or not student.numel():
        return nothing(student, reduction)
    column = index[:, None]
    odds_s, rest_s = split(s, column, temperature)
    odds_t, rest_t = split(t, column, temperature)
    push = torch.sigmoid(odds_s).sub_(torch.sigmoid(odds_t)).mul_(alpha)
    target = binary(odds_s, odds_t)

    q = rest_t.exp()
    rest_t -= rest_s
    rest_t.scatter_(1, column, 0.0)
    rest = rest_t.mul_(q).sum(1)
    gradient = rest_s.exp_()
    q *= -beta
    q.addcmul_(gradient, beta - push)
    q.scatter_(1, column, push)
    rows = rest.mul_(beta).add_(target.squeeze(1), alpha=alpha)

    return reduced(
        student, rows, q, reduction, scale=temperature * temperature, slope=temperature, given=given
    )
