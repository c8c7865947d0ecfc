"""Weighted soft labels: samples that the student already fits better than the teacher count less."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from ..shapes import Labels, Logits, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    exponentials,
    nothing,
    pair,
    positive,
    probabilities,
    reduced,
    soft,
    targets,
)


def wsld(
    student: Logits,
    teacher: Logits,
    labels: Labels,
    *,
    temperature: float = 4.0,
    eps: float = 1e-7,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""Soft cross-entropy with a weight per sample, from both networks' cross-entropies with the label.

    With :math:`p = \mathrm{softmax}(z / T)` and cross-entropies :math:`CE` at T = 1, per row

    .. math:: -w\, T^2 \sum_k p^t_k \log p^s_k, \qquad w = 1 - \exp\!\Big(-\frac{CE^s}{CE^t + \epsilon}\Big),

    where no gradient passes w.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        labels: class ids ``(N,)``; rows labelled -100 count nothing.
        temperature: divides the logits, above 0.
        eps: keeps the ratio finite where the teacher is certain.
        reduction: ``mean`` over labelled rows, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without a labelled row. A cross-entropy: not 0 for
        equal networks.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.

    Source:
        Zhou et al. 2021, arXiv:2102.00650; checked against ``wsld.py`` of cls_KD, whose factor alpha is the
        weight of the method here.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
        >>> wsld(student, teacher, torch.tensor([0]))
        tensor(3.9131)
    """
    positive(temperature=temperature, eps=eps)
    check_reduction(reduction)
    s, t = pair(student, teacher)
    index, given = targets(labels, *student.shape)
    if not student.numel():
        return nothing(student, reduction)
    hard_s, hard_t = (cross_entropy(x, index, reduction="none") for x in (s, t))
    weight = hard_s.div_(-eps - hard_t).expm1_()[:, None]
    log_s, q = soft(s, temperature), probabilities(t, temperature)
    rows = (q * log_s).sum(1)
    return reduced(
        student,
        rows,
        q.sub_(exponentials(log_s, out=log_s)),
        reduction,
        scale=temperature * temperature,
        slope=temperature,
        weights=weight,
        given=given,
    )
