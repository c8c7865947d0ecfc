"""Teacher-free KD: a virtual teacher made from the label alone."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import nll_loss

from ..errors import ConfigError
from ..shapes import Labels, Logits, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    exponentials,
    nothing,
    positive,
    reduced,
    rows_and_classes,
    targets,
    wide,
)


def tf_kd(
    student: Logits,
    labels: Labels,
    *,
    temperature: float = 20.0,
    confidence: float = 0.99,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""KL from a virtual teacher, right with a fixed confidence and indifferent among the rest.

    Per row :math:`\sum_k u_k (\log u_k - \log p_k)` with :math:`p = \mathrm{softmax}(z)` and

    .. math:: u = \mathrm{softmax}(v / T), \qquad v_y = a,\quad v_k = \frac{1 - a}{C - 1}\ (k \ne y).

    Args:
        student: logits ``(N, C)``; not divided by T.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        temperature: softens the virtual teacher, above 0. At 20 the released teacher is nearly uniform: with
            100 classes it gives the label 1.05 percent.
        confidence: the virtual teacher's probability a of the label, between 1 / C and 1.
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row.

    Raises:
        ShapeError: the labels do not fit.
        ConfigError: ``confidence`` is not in (0, 1].

    Source:
        Yuan et al. 2020, arXiv:1909.11723 (Tf-KD reg); formula from the authors' ``my_loss_function.py``,
        which softens probabilities, not logits, and whose ``multiplier`` of 100 undoes a mean over 100
        classes.

    Example:
        >>> tf_kd(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(0.4525)
    """
    positive(temperature=temperature)
    check_reduction(reduction)
    if not 0 < confidence <= 1:
        raise ConfigError("confidence is not valid", got=confidence, expected="a number above 0, up to 1")
    rows_and_classes(student)
    index, given = targets(labels, *student.shape)
    classes = student.shape[1]
    if classes < 2 or not student.numel():
        return nothing(student, reduction)
    column = index[:, None]
    rest = (1 - confidence) / (classes - 1)
    odds = math.exp((confidence - rest) / temperature)
    other = 1 / (odds + classes - 1)
    right = other * odds
    entropy = right * math.log(right) + (classes - 1) * other * math.log(other)

    log_p = torch.log_softmax(wide(student), 1)
    picked = nll_loss(log_p, index, reduction="none")
    rows = log_p.sum(1).add_(picked, alpha=1 - odds).sub_(entropy / other)
    gradient = exponentials(log_p, out=log_p).sub_(other).scatter_(1, column, other - right, reduce="add")
    return reduced(student, rows, gradient, reduction, scale=-other, given=given)
