"""Normalised knowledge distillation: the target's own term, and the others normalised among themselves."""

from __future__ import annotations

import torch

from ..shapes import Labels, Logits, Rows, Value
from ._common import Reduction, check_reduction, nothing, pair, positive, reduced, targets
from ._target import split


def nkd(
    student: Logits,
    teacher: Logits,
    labels: Labels,
    *,
    gamma: float = 3.5,
    temperature: float = 3.0,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""Two cross-entropies: of the target, weighed by the teacher's trust in it, and of the normalised rest.

    With :math:`p = \mathrm{softmax}(z)` and :math:`q = \mathrm{softmax}_{k \ne y}(z_k / T)`, per row

    .. math:: -p^t_y \log p^s_y - \gamma T^2 \sum_{k \ne y} q^t_k \log q^s_k .

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        gamma: weight of the rest. The authors take 3.5 with T = 3 on CIFAR-100, 1.5 with T = 1 on ImageNet.
        temperature: divides the logits of the rest, above 0; the target's term has none.
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row. Cross-entropies: not 0 for
        equal networks. With two classes the second part is 0.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.

    Source:
        Yang et al. 2023, arXiv:2303.13005; checked against ``nkd.py`` of cls_KD. The copy in SDD's repository
        leaves the target among the rest: another loss.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> nkd(student, teacher, torch.tensor([0]), gamma=1.0, temperature=1.0)
        tensor(0.7519)
    """
    positive(temperature=temperature)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    index, given = targets(labels, *student.shape)
    if student.shape[1] < 2 or not student.numel():
        return nothing(student, reduction)
    column = index[:, None]
    gradient = torch.log_softmax(s, 1)
    trust = torch.softmax(t, 1).gather(1, column)
    rows = (gradient.gather(1, column) * trust).squeeze(1)
    gradient.exp_().mul_(trust).scatter_add_(1, column, -trust)

    weight = gamma * temperature
    log_rest = split(s, column, temperature)[1]
    q = split(t, column, temperature)[1].exp_()
    gradient.sub_(q, alpha=weight)
    q.mul_(log_rest).scatter_(1, column, 0.0)
    rows.add_(q.sum(1), alpha=weight * temperature)
    gradient.add_(log_rest.exp_(), alpha=weight)
    return reduced(student, rows, gradient, reduction, scale=-1.0, given=given)
