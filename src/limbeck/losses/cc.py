"""CC: match how the samples of a batch correlate."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..shapes import Features, Value, Vectors
from ._common import DEGENERATE, Degenerate, choice, positive, wants_gradient
from ._features import alike, empty
from ._relations import between, gram, samples

Distance = Literal["square", "norm"]


def cc(
    student: Features,
    teacher: Features,
    *,
    gamma: float = 0.4,
    order: int = 2,
    normalise: bool = True,
    distance: Distance = "square",
    reduction: Literal["mean", "sum"] = "mean",
    degenerate: Degenerate = "skip",
) -> Value:
    r"""Distance of two matrices of correlations between samples, under a Gaussian kernel.

    The kernel is its Taylor series up to the order P,

    .. math:: K_{ij} = \sum_{p=0}^P e^{-2\gamma} \frac{(2\gamma)^p}{p!} \langle x_i, x_j \rangle^p,

    the distance :math:`\| K^s - K^t \|_F^2` (``square``) or :math:`\| K^s - K^t \|_F` (``norm``), divided by
    :math:`N^2` with ``reduction="mean"``.

    Args:
        student: ``(N, ...)``, flattened to vectors.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        gamma: of the kernel, above 0.
        order: P, the last power of the series.
        normalise: scale each sample's features to length 1, for which the series is that of the Gaussian kernel.
        distance: squared or not.
        reduction: ``mean`` over all pairs, or their ``sum``.

        degenerate: a sample whose features are all 0 has no direction. ``skip`` gives it no gradient;
            ``published`` divides by 1e-12, a gradient of 1e10 from one dead sample.

    Returns:
        A scalar. It compares the samples with each other, each with itself too. 0 without samples.

    Raises:
        ShapeError: the batches differ.
        ConfigError: an option is not valid.

    Source:
        Peng et al., ICCV 2019, arXiv:1904.01802; checked against Knowledge-Distillation-Zoo (the defaults) and
        torchdistill (``normalise=False, distance="norm"``).

    Example:
        >>> cc(torch.eye(2), torch.tensor([[1.0], [1.0]]))
        tensor(0.1266)
    """
    positive(gamma=gamma, order=order)
    choice("distance", distance, ("square", "norm"))
    choice("degenerate", degenerate, DEGENERATE)
    choice("reduction", reduction, ("mean", "sum"))
    s, t = samples(student, teacher)
    if not student.numel():
        return empty(student)
    near, size = _similar(s, normalise)
    far, _ = _similar(t, normalise)
    powers = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    difference = _series(near, powers) - _series(far, powers)
    share = 1 / difference.numel() if reduction == "mean" else 1.0
    length = torch.linalg.vector_norm(difference)
    value: Tensor = share * (length if distance == "norm" else length.square())
    matrix = None
    if wants_gradient(student):
        factor = 2 * share if distance == "square" else share / length.clamp(min=torch.finfo(s.dtype).tiny)
        slopes = [p * power for p, power in enumerate(powers)][1:]
        matrix = difference.mul_(_series(near, slopes)).mul_(2 * factor)
        if size is not None:
            own = (matrix * near).sum(1) / size.squeeze(1).square()
            matrix = matrix.div_(size * size.T)
            matrix.diagonal().sub_(own)
            if degenerate == "skip":
                matrix.masked_fill_(size <= 1e-12, 0.0)
    return between(student, value, matrix)


def cc_neighbours(student: Vectors, teacher: Vectors) -> Value:
    r"""What RepDistiller trains as CC: the product of neighbouring samples' differences.

    .. math:: \frac1{N-1} \sum_{i<N} \langle |e^s_i - e^t_i|, |e^s_{i+1} - e^t_{i+1}| \rangle

    There is no kernel in it, and it depends on the order of the batch.

    Args:
        student: trained embedding of the student ``(N, D)``.
        teacher: trained embedding of the teacher ``(N, D)``. **It is differentiated too**: the embedding is
            trained, which makes equal, collapsed embeddings an optimum.

    Returns:
        A scalar; 0 for fewer than two samples, where the released code is NaN.

    Raises:
        ShapeError: the shapes differ.

    Source:
        RepDistiller ``CC.py``.

    Example:
        >>> cc_neighbours(torch.eye(2), torch.ones(2, 2))
        tensor(0.)
        >>> cc_neighbours(torch.zeros(2, 2), torch.ones(2, 2))
        tensor(2.)
    """
    s, _ = alike(student, teacher)
    if len(s) < 2:
        return 0.0 * (s.sum() + teacher.sum().to(s.dtype))
    distance = (s - teacher.to(s.dtype)).abs().flatten()
    return torch.dot(distance[: -s.shape[1]], distance[s.shape[1] :]) / (len(s) - 1)


def _similar(x: Tensor, normalise: bool) -> tuple[Tensor, Tensor | None]:
    """Inner products of the samples, and the lengths that they were divided by."""
    if not normalise:
        return gram(x), None
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_(min=1e-12)
    return gram(x).div_(size * size.T), size


def _series(x: Tensor, powers: list[float]) -> Tensor:
    """``powers[0] + powers[1] x + ...``."""
    total = torch.full_like(x, powers[-1])
    for factor in reversed(powers[:-1]):
        total.mul_(x).add_(factor)
    return total
