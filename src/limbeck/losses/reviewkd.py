"""ReviewKD's hierarchical context loss: match maps at several resolutions."""

from __future__ import annotations

from torch.nn import functional as F

from ..shapes import Maps, Value
from ._features import alike, empty

SIZES = (4, 2, 1)


def hcl(student: Maps, teacher: Maps) -> Value:
    r"""Weighted mean of squared differences at full size and pooled to 4x4, 2x2 and 1x1.

    .. math:: \frac{D(s, t) + \sum_l w_l \, D(\mathrm{pool}_l\, s, \mathrm{pool}_l\, t)}{1 + \sum_l w_l},
              \quad D = \text{mean squared difference},

    over those sizes l of 4, 2, 1 that are smaller than the map, with weights 1/2, 1/4, 1/8 in order of use.

    Args:
        student: maps ``(N, C, H, W)``, already brought to the teacher's shape.
        teacher: maps ``(N, C, H, W)``, never differentiated.

    Returns:
        A scalar; 0 without elements.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Chen et al., CVPR 2021, arXiv:2104.09044; checked against dvlab-research/ReviewKD.

    Example:
        >>> import torch
        >>> hcl(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
        tensor(1.)
    """
    s, t = alike(student, teacher)
    if not s.numel():
        return empty(s)
    value, weight, total = F.mse_loss(s, t), 1.0, 1.0
    height, width = s.shape[2:]
    gap = None
    for size in SIZES:
        if size >= height:
            continue
        # Where windows tile the map, a smaller pool is a pool of the larger one.
        if gap is None or height % gap.shape[2] or width % gap.shape[3]:
            gap = F.adaptive_avg_pool2d(s, size) - F.adaptive_avg_pool2d(t, size)
        else:
            gap = F.adaptive_avg_pool2d(gap, size)
        weight /= 2
        total += weight
        value = value + weight * gap.square().mean()
    return value / total
