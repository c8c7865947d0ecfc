"""Entropic optimal transport between two clouds of points, in the log domain."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Value
from ._common import exact, known, nothing, positive, wants_gradient, wide

TOGETHER = 10
"""Updates by products before the potentials take them in."""

SMALLEST = 1e-20
"""Mass that a point's update divides by at least."""


class Plan(NamedTuple):
    """The solution of entropic transport between N and M points of equal weight.

    Attributes:
        value: the regularised cost.
        plan: what moves from where to where ``(N, M)``; each row of it sums to 1/N.
    """

    value: Tensor
    plan: Tensor


def sinkhorn_divergence(
    student: Tensor,
    teacher: Tensor,
    *,
    blur: float = 0.1,
    debias: bool = True,
    iterations: int = 40,
    tolerance: float = 1e-3,
) -> Value:
    r"""Debiased entropic transport cost between the rows of two matrices, each row of weight 1/N.

    With :math:`C_{ij} = \frac12 \|x_i - y_j\|^2` and :math:`\epsilon = \mathrm{blur}^2`,

    .. math:: \mathrm{OT}(x, y) = \min_P \langle P, C \rangle + \epsilon\, \mathrm{KL}(P \,\|\, \tfrac1N \tfrac1M),
        \qquad \mathrm{OT}(x, y) - \tfrac12 \mathrm{OT}(x, x) - \tfrac12 \mathrm{OT}(y, y)

    The plan is found without a graph, and the gradient is that of :math:`\langle P, C \rangle` with P held fixed, which
    by the envelope theorem is the gradient of the regularised value. Epsilon falls by a factor of 4 at a time from
    the largest cost, in float32 at least, so it neither overflows nor ends in the plan 0 at small epsilon.

    Args:
        student: ``(N, D)``.
        teacher: ``(M, D)``, never differentiated.
        blur: the square root of epsilon, in the units of the points.
        debias: subtract the self terms, so that equal clouds are at distance 0.
        iterations: updates of both potentials at the final epsilon, at most.
        tolerance: stop when the plan's columns are wrong by less than this share of the mass.

    Returns:
        A scalar; 0 without rows.

    Raises:
        ShapeError: the points are not of one dimension.
        ConfigError: an option is not valid.

    Source:
        Cuturi 2013, arXiv:1306.0895; Feydy et al. 2019, arXiv:1810.08278 (debiasing). Value and gradient are checked
        against POT's ``ot.solve`` and geomloss' ``SamplesLoss(p=2)``, whose cost is this half square.

    Example:
        >>> x = torch.eye(3)
        >>> sinkhorn_divergence(x, x.flip(0)), sinkhorn_divergence(x, 0 * x, debias=False)
        (tensor(0.), tensor(0.5000))
    """
    positive(blur=blur, iterations=iterations, tolerance=tolerance)
    if student.dim() != 2 or teacher.dim() != 2 or student.shape[1] != teacher.shape[1]:
        raise ShapeError(
            "these points cannot be compared",
            got=f"{tuple(student.shape)} and {tuple(teacher.shape)}",
            expected="(N, D) and (M, D)",
        )
    if not len(student) or not len(teacher):
        return nothing(student)
    x, y = wide(student, teacher.dtype), wide(teacher, student.dtype)
    found: dict[str, Plan] = {}
    differentiated = wants_gradient(student)
    with exact(x), torch.no_grad():
        for name, (a, b) in {"cross": (x, y), "own": (x, x), "other": (y, y)}.items():
            if debias or name == "cross":
                found[name] = solve(half_squares(a, b), blur**2, iterations, tolerance, anneal=a is not b)
        value, gradient = found["cross"].value, None
        if debias:
            value = (value - (found["own"].value + found["other"].value) / 2).clamp(min=0)
        if differentiated:
            gradient = _pull(found["cross"].plan, x, y)
            if debias:
                gradient -= _pull((found["own"].plan + found["own"].plan.T) / 2, x, x)
    return known(student, value, gradient)


def half_squares(x: Tensor, y: Tensor) -> Tensor:
    """Half the squared distances ``(N, M)``, by the expanded form, never below 0; exactly 0 from a point to itself."""
    square_x, square_y = x.square().sum(1), y.square().sum(1)
    cost = torch.addmm((square_x[:, None] + square_y) / 2, x, y.T, alpha=-1).clamp_(min=0)
    if x is y:
        cost.fill_diagonal_(0.0)
    return cost


@torch.no_grad()
def solve(
    cost: Tensor, epsilon: float, iterations: int = 40, tolerance: float = 1e-3, anneal: bool = True
) -> Plan:
    """Solve one problem ``(N, M)``, all points of equal weight; arguments as ``sinkhorn_divergence``.

    At every epsilon one potential is updated by a log-sum-exp, which no epsilon overflows. The updates after it are
    products with the plan as it then stands, whose factors are near 1, and are taken into the potentials again.
    ``anneal=False`` starts at the final epsilon, which is enough between a cloud and itself: little moves there.

    Example:
        >>> solve(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.01).plan.round(decimals=3)
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    n, m = cost.shape
    f = cost.new_zeros(n)
    start = max(float(cost.max()), epsilon) if anneal else epsilon
    for i in range(math.ceil(math.log(start / epsilon, 4))):
        f = _level(cost, f, start / 4**i, 2)[0]
    while True:
        count = min(iterations, TOGETHER)
        f, g, plan = _level(cost, f, epsilon, count)
        iterations -= count
        if iterations <= 0 or float((plan.sum(0) - 1 / m).abs().sum()) < tolerance:
            return Plan(f.mean() + g.mean(), plan)


def _level(cost: Tensor, f: Tensor, epsilon: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both potentials after updates at one epsilon, and their plan, whose rows are exact."""
    n, m = cost.shape
    plan = (f[:, None] - cost).div_(epsilon)
    largest = plan.amax(0)
    plan.sub_(largest).exp_()
    total = plan.sum(0)
    g = (largest + (total / n).log_()).mul_(-epsilon)
    plan.div_(total.mul_(m))  # its columns are exact
    turned, u, v = plan.T, torch.ones_like(f), torch.ones_like(g)
    for i in range(count):
        if i:
            v = (turned @ u).clamp_(min=SMALLEST).reciprocal_().div_(m)
        u = (plan @ v).clamp_(min=SMALLEST).reciprocal_().div_(n)
    plan.mul_(u[:, None]).mul_(v)
    return f + epsilon * u.log(), g + epsilon * v.log(), plan


def _pull(plan: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of ``<plan, half_squares(x, y)>`` with respect to x."""
    return plan.sum(1, keepdim=True) * x - plan @ y
