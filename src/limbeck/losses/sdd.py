"""Scale-decoupled distillation: a loss on logits, applied to the regions of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import IGNORE, Labels, Maps, Regional, Regions, Rows, Value
from ._common import (
    Reduction,
    check_reduction,
    choice,
    divergence,
    exact,
    pair,
    positive,
    reduced,
    soft,
)
from .dkd import dkd
from .nkd import nkd

Base = Literal["kd", "dkd", "nkd"]
BASES = ("kd", "dkd", "nkd")


def sdd(
    student: Regional,
    teacher: Regional,
    labels: Labels,
    *,
    base: Base = "dkd",
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
    complementary: float = 2.0,
    reduction: Reduction = "mean",
) -> Value | Rows:
    r"""A loss on logits over all regions, those counting more where the teacher sees another thing than globally.

    With :math:`\ell` the loss ``base`` of one row,

    .. math:: \frac{1}{R} \sum_r w_{r}\, \ell(z^s_r, z^t_r), \qquad
              w_r = \begin{cases} c & \text{the teacher is right in one of region } r \text{ and region 0} \\
              1 & \text{right or wrong in both} \end{cases}

    Args:
        student: logits of each region ``(R, N, C)``, from ``regional_logits``; region 0 is the whole image.
        teacher: logits ``(R, N, C)``, never differentiated.
        labels: class ids ``(N,)``. Images labelled -100 count nothing under ``dkd`` and ``nkd``, and have
            weight 1 everywhere under ``kd``, which needs no label.
        base: ``kd``, ``dkd`` or ``nkd``.
        temperature: of the base.
        alpha: of ``dkd``.
        beta: of ``dkd``, gamma of ``nkd``.
        complementary: the weight c.
        reduction: ``mean`` over images, ``sum``, or ``none``.

    Returns:
        A scalar, or ``(N,)`` with ``reduction="none"``.

    Raises:
        ShapeError: the shapes do not fit, or a label is no class.

    Source:
        Wei et al. 2024, arXiv:2403.13512; checked against shicaiwei123/SDD-CVPR2024 for ``kd`` and ``dkd``.

    Deviation:
        The released code replaces a loss that is not finite by 0; this one is finite. Its NKD leaves the
        target among the rest; this one is ``nkd``.

    Example:
        >>> student, teacher = torch.zeros(2, 1, 3), torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]])
        >>> sdd(student, teacher, torch.tensor([0]), base="kd")
        tensor(0.7240)
        >>> sdd(student, teacher, torch.tensor([0]), base="kd", complementary=1.0)
        tensor(0.4827)
    """
    choice("base", base, BASES)
    positive(temperature=temperature)
    check_reduction(reduction)
    regions, rows = student.shape[:2]
    s, t, weights = student.flatten(0, 1), teacher.flatten(0, 1), _weights(teacher, labels, complementary)
    if base == "kd":
        log_s, log_t = (soft(x, temperature) for x in pair(s, t))
        values, gradient = divergence(log_s, log_t, precise=temperature > 4)
        share = temperature * temperature / (regions if reduction == "sum" else 1)
        found = reduced(
            s,
            values,
            gradient,
            reduction,
            scale=share,
            slope=share / temperature,
            weights=weights.view(-1, 1),
        )
        return found.view(regions, rows).mean(0) if reduction == "none" else found
    y = labels.repeat(regions)
    if base == "dkd":
        values = dkd(s, t, y, alpha=alpha, beta=beta, temperature=temperature, reduction="none")
    else:
        values = nkd(s, t, y, gamma=beta, temperature=temperature, reduction="none")
    if reduction == "none":
        return (values.view(regions, rows) * weights).mean(0)
    total = values @ weights.flatten().to(values.dtype) / regions
    return total if reduction == "sum" else total / (labels != IGNORE).sum().clamp(min=1)


def _weights(teacher: Tensor, labels: Tensor, complementary: float) -> Tensor:
    """Weight of each region of each image ``(R, N)``."""
    if not teacher.numel():
        return teacher.new_ones(teacher.shape[:2])
    right = teacher.argmax(2) == labels
    return torch.where(right != right[:1], complementary, 1.0)


def regions(features: Maps, scales: Sequence[int] = (1, 2)) -> Regions:
    """Means of the regions of a map: of the whole, of quarters, of sixteenths.

    The map is averaged to 4×4 first (adaptively, whatever its size); larger regions are means of those 16.

    Args:
        features: maps ``(N, D, H, W)``.
        scales: regions on each side, of 1, 2 and 4.

    Returns:
        ``(N, D, R)``, R = 1, 5 or 21 for the published scales; within a scale row by row.

    Source:
        Wei et al. 2024, arXiv:2403.13512; checked against the authors' ``SPP``.

    Example:
        >>> regions(torch.arange(16.0).view(1, 1, 4, 4), (1, 2))
        tensor([[[ 7.5000,  2.5000,  4.5000, 10.5000, 12.5000]]])
    """
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    rows, columns = (_shares(size, scales, x) for size in x.shape[2:])
    # Pooling is linear, so one product with a thin matrix reads the map once for all regions.
    parts = [torch.kron(a, b) for a, b in zip(rows, columns, strict=True)]
    with exact(x):
        return (x.flatten(2) @ torch.cat(parts, 1)).to(features.dtype)


def _shares(size: int, scales: Sequence[int], like: Tensor) -> list[Tensor]:
    """How much each place of a line counts in the mean of each of its parts, ``(size, scale)`` by scale."""
    quarters = F.adaptive_avg_pool1d(torch.eye(size, dtype=like.dtype, device=like.device), 4)
    return [quarters.view(size, scale, 4 // scale).mean(2) for scale in scales]


def regional_logits(
    features: Maps, weight: Tensor, bias: Tensor | None, scales: Sequence[int] = (1, 2)
) -> Regional:
    """What a network's classifier says of each region of its last map.

    Args:
        features: the map that the network averages before its classifier ``(N, D, H, W)``.
        weight: of the classifier ``(C, D)``.
        bias: of the classifier ``(C,)``, or None.
        scales: as in ``regions``.

    Returns:
        Logits ``(R, N, C)`` in float32 at least.

    Example:
        >>> regional_logits(torch.ones(2, 3, 8, 8), torch.ones(5, 3), None, (1, 2, 4)).shape
        torch.Size([21, 2, 5])
    """
    wide = torch.promote_types(features.dtype, torch.float32)
    cells = regions(features.to(wide), scales).permute(2, 0, 1)
    return F.linear(cells, weight.to(wide), None if bias is None else bias.to(wide))


__all__ = ["regional_logits", "regions", "sdd"]
