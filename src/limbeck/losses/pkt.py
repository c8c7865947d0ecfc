"""PKT: match the probabilities with which samples are each other's neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Features, Value
from ._common import positive, wants_gradient
from ._features import empty
from ._relations import between, gram, samples


def pkt(student: Features, teacher: Features, *, eps: float = 1e-7) -> Value:
    r"""Divergence of the two networks' neighbourhoods.

    With the cosine :math:`c_{ij}` of the features of samples i and j (eps is added to each length) and
    :math:`p_{ij} = \frac{c_{ij} + 1}{\sum_k c_{ik} + 1}`,

    .. math:: \frac1{N^2} \sum_{ij} p^t_{ij} \log \frac{p^t_{ij} + \epsilon}{p^s_{ij} + \epsilon}

    The mean is over all pairs, not over rows: published weights are around 30000.

    Args:
        student: ``(N, ...)``, flattened to vectors.
        teacher: ``(N, ...)`` of any other size, never differentiated.
        eps: above 0.

    Returns:
        A scalar. It compares the samples with each other: 0 for a batch of one, and without samples. A sample
        whose features are all 0 has cosine 0 with every one, and gets no gradient.

    Raises:
        ShapeError: the batches differ.

    Source:
        Passalis, Tefas, ECCV 2018, arXiv:1803.10837; checked against the authors' code, RepDistiller and
        Knowledge-Distillation-Zoo (``eps=1e-6``), whose gradient is NaN where all features of a sample are 0.

    Example:
        >>> student, teacher = torch.eye(2), torch.tensor([[1.0], [1.0]])
        >>> pkt(student, teacher)
        tensor(0.0294)
    """
    positive(eps=eps)
    s, t = samples(student, teacher)
    if not student.numel():
        return empty(student)
    cosines, total, p, length = _neighbours(s, eps)
    _, _, q, _ = _neighbours(t, eps)
    above = p + eps
    value = (q + eps).div_(above).log_().mul_(q).mean()
    matrix = None
    if wants_gradient(student):
        slope = q.div_(above).mul_(-1 / q.numel())
        slope = (slope - (slope * p).sum(1, keepdim=True)).div_(2 * total)
        slope = slope + slope.T
        # d cos_ij / d x_i = (x_j / s_j - cos_ij x_i / |x_i|) / s_i with s = |x| + eps
        size = length + eps
        matrix = slope / (size * size.T)
        own = (slope * cosines).sum(1, keepdim=True) / (size * length)
        matrix.diagonal().sub_(own.squeeze(1))
        matrix.masked_fill_(length == 0, 0.0)
    return between(student, value, matrix)


def _neighbours(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosines, row sums of the similarities, probabilities, and the samples' lengths as a column."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    size = length + eps
    cosines = gram(x).div_(size * size.T)
    similar = (cosines + 1).div_(2)
    total = similar.sum(1, keepdim=True)
    return cosines, total, similar.div_(total), length
