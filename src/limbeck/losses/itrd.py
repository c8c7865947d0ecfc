"""ITRD: correlate every feature with the teacher's, and share the structure of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..shapes import TeacherVectors, Value, Vectors
from ._common import known, positive, wants_gradient, wide
from ._cosine import through_unit, unit
from .dcd import check_embeddings

FLAT = 1e-6
"""A feature that varies by less than this share of its size over the batch has no correlation."""


def itrd_correlation(student: Vectors, teacher: Vectors, *, alpha: float = 1.5) -> Value:
    r"""How far each feature's correlation with the teacher's is from 1, by Rényi's entropy.

    With features standardised over the batch (unbiased), :math:`\bar s` and :math:`\bar t`,

    .. math:: \log_2 \sum_d |c_d - 1|^{2\alpha}, \quad c_d = \frac1N \sum_i \bar s_{id} \bar t_{id} .

    Args:
        student: embeddings of the teacher's width ``(N, D)``.
        teacher: embeddings ``(N, D)``, never differentiated.
        alpha: order of the entropy.

    Returns:
        A scalar, negative when all correlations are near 1. It compares the rows: 0 for fewer than two. A
        feature that is constant in the batch has correlation 0 and no gradient, where the published code
        divides by zero.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Miles, Lopez Rodriguez, Mikolajczyk 2021, arXiv:2112.00459; checked against giakoumoglou/distillers.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> itrd_correlation(x, x)
        tensor(-2.)
    """
    positive(alpha=alpha)
    check_embeddings(student, teacher)
    s, t = wide(student, teacher.dtype), wide(teacher, student.dtype)
    n = len(s)
    if n < 2 or not s.numel():
        return known(student, s.sum() * 0, torch.zeros_like(s))
    (s, spread), (t, _) = _standardised(s), _standardised(t)
    c = (s * t).sum(0) / n
    gap = (1 - c).abs()
    total = gap.pow(2 * alpha).sum().clamp_(min=torch.finfo(s.dtype).tiny)
    gradient = None
    if wants_gradient(student):
        slope = gap.pow_(2 * alpha - 1).copysign_(c - 1) * (2 * alpha / (math.log(2) * n)) / total / spread
        gradient = t.addcmul_(s, c, value=-n / (n - 1)).mul_(slope)
    return known(student, total.log2(), gradient)


def itrd_mutual(student: Vectors, teacher: TeacherVectors) -> Value:
    r"""How much of the batch's structure the student keeps to itself.

    With the batch's cosine matrices :math:`G^s, G^t`, each divided by its trace where a tilde stands,

    .. math:: \sum_{ij} (\tilde G^s_{ij})^2 - \sum_{ij} \big(\widetilde{G^s \circ G^t}_{ij}\big)^2 .

    Args:
        student: embeddings ``(N, D)``; the width need not be the teacher's.
        teacher: embeddings ``(N, E)``, never differentiated.

    Returns:
        A scalar, at least 0. 0 for fewer than two rows.

    Raises:
        ShapeError: the numbers of rows differ.

    Source:
        Miles, Lopez Rodriguez, Mikolajczyk 2021, arXiv:2112.00459; checked against giakoumoglou/distillers.

    Example:
        >>> itrd_mutual(torch.tensor([[1.0], [1.0]]), torch.eye(2))
        tensor(0.5000)
    """
    check_embeddings(student, teacher, same_width=False)
    s, size = unit(wide(student, teacher.dtype), 1, 1e-12)
    t, _ = unit(wide(teacher, student.dtype), 1, 1e-12)
    own, both = s @ s.T, t @ t.T
    both.square_()
    trace = own.diagonal().sum().clamp(min=1e-12)
    shared = (own.diagonal() * both.diagonal().sqrt()).sum().clamp(min=1e-12)
    rest = own * (1 / trace.square() - both / shared.square())
    value = (own * rest).sum()
    gradient = None
    if wants_gradient(student):
        gradient = through_unit(s, size, rest @ s, 1).mul_(4)
    return known(student, value, gradient)


def _standardised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of mean 0 and unbiased standard deviation 1 (0 where flat), and what they were divided by."""
    spread = x.std(0, keepdim=True)
    flat = spread <= FLAT * x.abs().amax(0, keepdim=True)
    x = (x - x.mean(0, keepdim=True)) / spread.masked_fill(flat, torch.inf)
    return x, spread.masked_fill_(flat, torch.inf).squeeze(0)
