"""SP: match how alike the samples of a batch are."""

from __future__ import annotations

from torch import Tensor

from ..shapes import Features, Value
from ._common import DEGENERATE, Degenerate, choice, wants_gradient
from ._cosine import through_unit, unit
from ._features import empty
from ._relations import between, gram, samples


def sp(student: Features, teacher: Features, *, degenerate: Degenerate = "skip") -> Value:
    r"""Squared distance of two normalised matrices of similarities between samples.

    With the features of sample i flattened to :math:`x_i`, :math:`G_{ij} = \langle x_i, x_j \rangle` and
    each row of G scaled to length 1,

    .. math:: \frac1{N^2} \| \tilde G^s - \tilde G^t \|_F^2

    Args:
        student: ``(N, ...)``.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        degenerate: the row of a sample whose features are all 0 has no direction. ``skip`` gives it no gradient;
            ``published`` divides by 1e-12, a gradient of 1e10 from one dead sample.

    Returns:
        A scalar. It compares the samples with each other: 0 for a batch of one, and without samples.

    Raises:
        ShapeError: the batches differ.
        ConfigError: an option is not valid.

    Source:
        Tung, Mori, ICCV 2019, arXiv:1907.09682; checked against RepDistiller and Knowledge-Distillation-Zoo.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2), torch.tensor([[1.0], [1.0]])
        >>> sp(student, teacher)
        tensor(0.2929)
    """
    choice("degenerate", degenerate, DEGENERATE)
    s, t = samples(student, teacher)
    if not student.numel():
        return empty(student)
    rows, size = unit(gram(s), 1, 1e-12)
    difference = rows - unit(gram(t), 1, 1e-12)[0]
    value: Tensor = difference.square().mean()
    matrix = None
    if wants_gradient(student):
        found = through_unit(rows, size, difference.mul_(2 / difference.numel()), 1)
        if degenerate == "skip":
            found.masked_fill_(size <= 1e-12, 0.0)
        matrix = found + found.T
    return between(student, value, matrix)
