"""Refined logits: distil the teacher without what contradicts the label."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Labels, Logits, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    nothing,
    pair,
    positive,
    probabilities,
    reduced,
    targets,
)
from ._target import binary, split


def rld(
    student: Logits,
    teacher: Logits,
    labels: Labels,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    alpha_temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""Two divergences: the label takes the confidence of the teacher's first choice, and the classes that
    the teacher scores below the label keep their relation.

    With :math:`b^s = (p^s_y, 1 - p^s_y)` and :math:`b^t = (\max p^t, 1 - \max p^t)` at temperature
    :math:`T_\alpha`, and :math:`q = \mathrm{softmax}(z / T)` over the classes k with :math:`z^t_k < z^t_y`,
    per row

    .. math:: \alpha T_\alpha^2\, KL(b^t \| b^s) + \beta T^2\, KL(q^t \| q^s).

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        alpha: weight of the first part.
        beta: weight of the second part.
        temperature: of the second part, above 0.
        alpha_temperature: of the first part, above 0.
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row. Where the teacher scores
        no class below the label, the second part is 0.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.

    Source:
        Sun et al. 2024, arXiv:2408.07703; checked against ``RLD.py`` of zju-SWJ/RLD.

    Deviation:
        The log-odds come from ``logsumexp``, where the released code takes the logarithm of an underflowed
        sum (infinite in float32 for logits of about 50).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, -1.0]])
        >>> rld(student, teacher, torch.tensor([0]))
        tensor(0.1661)
    """
    positive(temperature=temperature, alpha_temperature=alpha_temperature)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    index, given = targets(labels, *student.shape)
    if student.shape[1] < 2 or not student.numel():
        return nothing(student, reduction)
    column = index[:, None]
    odds_s, gradient = split(s, column, alpha_temperature)
    odds_t = _confidence(t, alpha_temperature)
    slope = alpha * alpha_temperature
    push = torch.sigmoid(odds_s).sub_(torch.sigmoid(odds_t)).mul_(slope)
    gradient.exp_().mul_(-push).scatter_(1, column, push)
    rows = binary(odds_s, odds_t).squeeze(1).mul_(slope * alpha_temperature)

    # A finite floor: where no class is below the label, both are uniform and nothing is left to teach.
    hidden = t >= t.gather(1, column)
    floor = torch.finfo(t.dtype).min / 4
    lower_s, lower_t = (torch.where(hidden, floor, x / temperature) for x in (s, t))
    q = torch.softmax(lower_t, 1)
    below = torch.log_softmax(lower_t, 1).sub_(torch.log_softmax(lower_s, 1)).mul_(q).sum(1)
    difference = torch.softmax(lower_s, 1).sub_(q)
    weight = beta * temperature
    rows.add_(below, alpha=weight * temperature)
    gradient.add_(difference, alpha=weight)
    return reduced(student, rows, gradient, reduction, given=given)


def _confidence(logits: Tensor, temperature: float) -> Tensor:
    """Log-odds of each row's largest class against the rest ``(N, 1)``."""
    p = probabilities(logits, temperature)
    peak, where = p.max(1, keepdim=True)
    rest = p.scatter_(1, where, 0.0).sum(1, keepdim=True)
    return peak.div_(rest.clamp_(min=torch.finfo(p.dtype).tiny)).log_()
