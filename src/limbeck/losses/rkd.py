"""RKD: match distances and angles between samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Features, Value
from ._common import DEGENERATE, Degenerate, choice, known, wants_gradient
from ._features import empty
from ._relations import between, gram, samples

BUDGET = 2**20
"""Numbers that a chunk of triplets may hold."""


def rkd_distance(student: Features, teacher: Features, *, squared: bool = False) -> Value:
    r"""Smooth L1 distance of the two networks' normalised distances between samples.

    .. math:: \frac1{N^2} \sum_{ij} \mathrm{smooth}_{L_1}\Big(\frac{d^s_{ij}}{\mu^s} - \frac{d^t_{ij}}{\mu^t}\Big),
              \quad d_{ij} = |x_i - x_j|

    with the mean :math:`\mu` of the distances between different samples.

    Args:
        student: ``(N, ...)``, flattened to vectors.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        squared: squared distances, as mdistiller offers.

    Returns:
        A scalar. It compares the samples with each other: 0 for fewer than three, and without samples.
        Squared distances below 1e-12 count as 1e-12 and have no gradient.

    Raises:
        ShapeError: the batches differ.

    Source:
        Park et al., CVPR 2019, arXiv:1904.05068, equations 3 to 5; checked against the authors' code,
        RepDistiller and mdistiller, which are NaN for a batch of one.

    Example:
        >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]])
        >>> rkd_distance(student, teacher)
        tensor(0.0139)
    """
    s, t = samples(student, teacher)
    n = len(s)
    if not student.numel() or n < 2:
        return empty(student) * 0.0
    d, mean, exact = _distances(s, squared)
    other, mean_t, _ = _distances(t, squared)
    difference = (d / mean).sub_(other.div_(mean_t))
    value = F.smooth_l1_loss(difference, torch.zeros_like(difference))
    matrix = None
    if wants_gradient(student):
        slope = difference.clamp_(-1, 1).mul_(1 / difference.numel())
        slope = (slope - (slope * d).sum() / (mean * n * (n - 1))).div_(mean)
        slope.diagonal().zero_()
        # From a distance to its square, and from there to 4 (x_i - x_j): both orders of a pair count.
        slope = slope.masked_fill_(~exact, 0.0) if squared else slope.div_(2 * d.where(exact, torch.inf))
        matrix = slope.mul_(-4)
        matrix.diagonal().sub_(matrix.sum(1))
    return between(student, value, matrix)


def rkd_angle(student: Features, teacher: Features, *, degenerate: Degenerate = "skip") -> Value:
    r"""Smooth L1 distance of the two networks' angles between triplets of samples.

    .. math:: \frac1{N^3} \sum_{ijk} \mathrm{smooth}_{L_1}(a^s_{ijk} - a^t_{ijk}), \quad
              a_{ijk} = \Big\langle \frac{x_j - x_i}{|x_j - x_i|}, \frac{x_k - x_i}{|x_k - x_i|} \Big\rangle

    Triplets are worked off in chunks of corners i: memory grows with N (N + D), not with N^2 (N + D).

    Args:
        student: ``(N, ...)``, flattened to vectors.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        degenerate: two samples with equal features have no direction between them; its cosines are 0.
            ``skip`` gives it no gradient; ``published`` divides by 1e-12, a gradient of 1e10 from one repeated
            image or from two samples whose features all died.

    Returns:
        A scalar. It compares the samples with each other; 0 without samples.

    Raises:
        ShapeError: the batches differ.
        ConfigError: an option is not valid.

    Source:
        Park et al., CVPR 2019, arXiv:1904.05068, equations 6 and 7; checked against the authors' code,
        RepDistiller and mdistiller.

    Example:
        >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd_angle(student, torch.tensor([[0.0], [1.0], [2.0]]))
        tensor(0.1296)
    """
    choice("degenerate", degenerate, DEGENERATE)
    s, t = samples(student, teacher)
    if not student.numel():
        return empty(student)
    n = len(s)
    value = s.new_zeros(())
    gradient = torch.zeros_like(s) if wants_gradient(student) else None
    step = max(BUDGET // (n * max(n, s.shape[1])), 1)
    for start in range(0, n, step):
        corners = slice(start, start + step)
        u, size = _directions(s, corners)
        v, _ = _directions(t, corners)
        difference = (u @ u.mT).sub_(v @ v.mT)
        value += F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="sum")
        if gradient is not None:
            slope = difference.clamp_(-1, 1) @ u
            slope.addcmul_(u, (u * slope).sum(2, keepdim=True), value=-1).div_(size)
            if degenerate == "skip":
                slope.masked_fill_(size <= 1e-12, 0.0)
            gradient += slope.sum(0)
            gradient[corners] -= slope.sum(1)
    if gradient is not None:
        gradient = gradient.mul_(2 / n**3).view(student.shape)
    return known(student, value / n**3, gradient)


def _distances(x: Tensor, squared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, their mean over different samples, and where they are not cut off at 1e-12."""
    x = x - x.mean(0)  # what the samples share cancels; left in, it costs digits
    products = gram(x)
    squares = products.diagonal()
    d = products.mul(-2).add_(squares).add_(squares[:, None])
    exact = d >= 1e-12
    d.clamp_(min=1e-12)
    d = d if squared else d.sqrt_()
    d.diagonal().zero_()
    return d, d.sum() / (d.numel() - len(d)), exact


def _directions(x: Tensor, corners: slice) -> tuple[Tensor, Tensor]:
    """Unit vectors from each corner to every sample ``(corners, N, D)``, and their lengths before."""
    u = x - x[corners, None]
    size = torch.linalg.vector_norm(u, dim=2, keepdim=True).clamp_(min=1e-12)
    return u.div_(size), size
