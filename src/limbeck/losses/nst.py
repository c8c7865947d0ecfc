"""NST: match how the places of the teacher's neurons are distributed."""

from __future__ import annotations

import torch

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
    b, _ = unit(t.flatten(2), 2, 1e-12)
    own, cross = a @ a.mT, a @ b.mT
    rows = own.square().mean((1, 2)).sub_(cross.square().mean((1, 2)), alpha=2)
    if constant:
        rows += (b @ b.mT).square_().mean((1, 2))
    gradient = a
    if wants_gradient(s):
        gradient = torch.baddbmm(own @ a, cross, b, beta=4 / own[0].numel(), alpha=-4 / cross[0].numel())
        gradient = through_unit(a, size, gradient, 2)
    return reduced(s.flatten(1), rows, gradient.flatten(1), reduction)
