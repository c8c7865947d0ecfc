"""NST: match how the places of the teacher's neurons are distributed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..shapes import Maps, Rows, TeacherMaps, Value
from ._common import Reduction, check_reduction, reduced, wants_gradient
from ._cosine import through_unit, unit
from ._features import empty, maps


def nst(
    student: Maps, teacher: TeacherMaps, *, constant: bool = True, reduction: Reduction = "mean"
) -> Value | Rows:
    r"""Squared maximum mean discrepancy of channels, under the kernel :math:`\langle x, y \rangle^2`.

    The larger map is average-pooled to the smaller one's size. Each channel is one vector of all places,
    scaled to length 1: :math:`a_c` of the student, :math:`b_c` of the teacher. Per sample

    .. math:: \frac1{C^2} \sum_{cd} \langle a_c, a_d \rangle^2 + \frac1{C'^2} \sum_{cd} \langle b_c, b_d \rangle^2
              - \frac2{CC'} \sum_{cd} \langle a_c, b_d \rangle^2

    Args:
        student: maps ``(N, C, H, W)``.
        teacher: maps ``(N, C', H', W')``, never differentiated.
        constant: keep the teacher's own part, so that the value is 0 for equal maps.
        reduction: ``mean`` over samples, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``; 0 without rows. A channel that is 0 has no direction
        and no gradient.

    Raises:
        ShapeError: these are no maps of one batch.
        ConfigError: an option is not valid.

    Source:
        Huang, Wang 2017, arXiv:1707.01219; checked against RepDistiller and the authors' MXNet code
        (``constant=False, reduction="sum"``; its 1e-10 under the root is left out).

    Example:
        >>> student, teacher = torch.eye(2).view(1, 2, 1, 2), torch.ones(1, 1, 1, 2)
        >>> nst(student, teacher)
        tensor(0.5000)
    """
    check_reduction(reduction)
    s, t = maps(student, teacher)
    if not s.numel():
        return s.flatten(1).sum(1) if reduction == "none" else empty(s)
    a, size = unit(s.detach().flatten(2), 2, 1e-12)
    few_places = a.shape[2] < max(a.shape[1], t.shape[1])
    rows, slope = (_by_places if few_places else _by_channels)(a, t.flatten(2), constant)
    gradient = through_unit(a, size, slope(), 2) if wants_gradient(s) else a
    return reduced(s.flatten(1), rows, gradient.flatten(1), reduction)


Parts = tuple[Tensor, Callable[[], Tensor]]
"""Value of each sample, and what makes its gradient for the student's unit vectors."""


def _by_channels(a: Tensor, t: Tensor, constant: bool) -> Parts:
    """From inner products of channels; the teacher's are scaled instead of its maps."""
    size = torch.linalg.vector_norm(t, dim=2).clamp_(min=1e-12)[:, None]
    own, cross = a @ a.mT, (a @ t.mT).div_(size)
    rows = own.square().mean((1, 2)).sub_(cross.square().mean((1, 2)), alpha=2)
    if constant:
        rows += (t @ t.mT).div_(size).div_(size.mT).square_().mean((1, 2))
    shares = 4 / own[0].numel(), -4 / cross[0].numel()
    return rows, lambda: (own @ a).baddbmm_(cross.div_(size), t, beta=shares[0], alpha=shares[1])


def _by_places(a: Tensor, t: Tensor, constant: bool) -> Parts:
    """From inner products of places: a sum of squared products of channels is one of places too."""
    b, _ = unit(t, 2, 1e-12)
    other = (b.mT @ b).div_(b.shape[1])
    difference = torch.baddbmm(other, a.mT, a, beta=-1, alpha=1 / a.shape[1])
    rows = difference.square().sum((1, 2))
    if not constant:
        rows -= other.square_().sum((1, 2))
    return rows, lambda: (a @ difference).mul_(4 / a.shape[1])
