"""Label smoothing: the control without a teacher."""

from __future__ import annotations

import torch
from torch.nn.functional import nll_loss

from ..errors import ConfigError
from ..shapes import Labels, Logits, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    exponentials,
    nothing,
    reduced,
    rows_and_classes,
    targets,
    wide,
)


def label_smoothing(
    student: Logits, labels: Labels, *, smoothing: float = 0.1, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""Cross-entropy against labels mixed with the uniform distribution.

    Per row, with :math:`\log p = \mathrm{log\_softmax}(z)`,

    .. math:: -(1 - \epsilon) \log p_y - \frac{\epsilon}{C} \sum_k \log p_k .

    Args:
        student: logits ``(N, C)``.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        smoothing: the share epsilon of the uniform distribution, in [0, 1].
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row.

    Raises:
        ShapeError: the labels do not fit.
        ConfigError: ``smoothing`` is not in [0, 1].

    Source:
        Szegedy et al. 2016, arXiv:1512.00567; the form of Sultan 2023, arXiv:2301.12609. Equals
        ``torch.nn.functional.cross_entropy(..., label_smoothing=smoothing)`` where a row is labelled.

    Example:
        >>> label_smoothing(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0]))
        tensor(0.3729)
    """
    check_reduction(reduction)
    if not 0 <= smoothing <= 1:
        raise ConfigError("smoothing is not valid", got=smoothing, expected="a number from 0 to 1")
    rows_and_classes(student)
    index, given = targets(labels, *student.shape)
    if not student.numel():
        return nothing(student, reduction)
    column, uniform = index[:, None], smoothing / student.shape[1]
    log_p = torch.log_softmax(wide(student), 1)
    rows, scale = nll_loss(log_p, index, reduction="none"), 1.0
    if smoothing:
        rows, scale = log_p.sum(1).sub_(rows, alpha=(1 - smoothing) / uniform), -uniform
    gradient = exponentials(log_p, out=log_p)
    if smoothing:
        gradient -= uniform
    gradient.scatter_(1, column, smoothing - 1, reduce="add")
    return reduced(student, rows, gradient, reduction, scale=scale, given=given)
