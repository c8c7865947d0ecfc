"""CKA: match how alike the samples of a batch are, whatever the scale and the place of the features."""

from __future__ import annotations

from ..shapes import Features, Value
from ._features import empty
from ._relations import between, gram, samples


def cka(student: Features, teacher: Features) -> Value:
    r"""One minus linear centred kernel alignment, :math:`K = \bar X \bar X^\top` of features less their batch mean.

    .. math:: 1 - \langle K^s, K^t \rangle_F / (\| K^s \|_F \, \| K^t \|_F)

    Args:
        student: ``(N, ...)``. If its samples are all alike, it gets no gradient.
        teacher: ``(N, ...)`` of any other size, never differentiated.

    Returns:
        A scalar, from 0 (equal up to rotation, scale and shift) to 1. 0 for a batch of one, and without samples.

    Raises:
        ShapeError: the batches differ.

    Source:
        The index: Kornblith, Norouzi, Lee, Hinton, ICML 2019, arXiv:1905.00414.

    Example:
        >>> import torch
        >>> cka(torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[0.0], [7.0], [0.0]]))
        tensor(0.7500)
    """
    features, targets = samples(student, teacher)
    if not student[1:].numel():
        return empty(student[:0])
    s, t = (gram(x - x.mean(0)) for x in (features, targets))
    size, least = s.norm(), 1e-12 * features.square().sum()
    s, t = s / size.clamp_min(1e-30), t / t.norm().clamp_min(1e-30)
    alike = (s * t).sum()
    return between(student, 1 - alike, ((alike * s - t) * (2 / size)).where(size > least, 0.0))
