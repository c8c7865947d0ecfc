"""Cosine-similarity KD: match the direction of each class's probabilities over the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..shapes import Logits, Rows, Value
from ._common import known, nothing, pair, positive, probabilities, through_softmax, wants_gradient
from ._cosine import aligned


def cosine_similarity_kd(
    student: Logits, teacher: Logits, *, temperature: float = 4.0, alpha: float = 2.0, eps: float = 1e-8
) -> Value:
    r"""One minus the cosine of each class's column of probabilities, over the batch.

    With :math:`P = \mathrm{softmax}(z / T)`,

    .. math:: \alpha T^2 \Big(1 - \tfrac1C \sum_k
              \frac{\langle P^s_{:k}, P^t_{:k} \rangle}{|P^s_{:k}| |P^t_{:k}| + \epsilon}\Big).

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: divides the logits, above 0.
        alpha: factor on the loss.
        eps: keeps a zero column at cosine 0; added to the product of norms, as released.

    Returns:
        A scalar in [0, alpha T^2]. It depends on the batch: one row makes every cosine 1, so the loss and
        its gradient are 0; drop a short last batch.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Ham et al. 2023, arXiv:2311.14307 (the class-wise loss); formula from the authors' code
        (``mdistiller/distillers/CSKD.py`` in llieeai/lud). Its Gram-matrix and two-view terms, inherited
        from multi-level distillation and absent from the abstract, are left out.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> cosine_similarity_kd(student, teacher)
        tensor(0.0624)
    """
    positive(temperature=temperature)
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    return _columns(student, s, t, temperature, alpha * temperature * temperature, eps)


def cswt(
    student: Logits,
    teacher: Logits,
    *,
    low: float = 2.0,
    high: float = 6.0,
    alpha: float = 2.0,
    eps: float = 1e-8,
) -> Value:
    r"""``cosine_similarity_kd`` with a temperature per sample: lower where the two networks agree.

    .. math:: \alpha \bar T^2 \Big(1 - \tfrac1C \sum_k \cos(P^s_{:k}, P^t_{:k})\Big),
              \quad P_{i:} = \mathrm{softmax}(z_{i:} / T_i),\ \bar T = \tfrac1N \sum_i T_i,

    with :math:`T_i` from ``cswt_temperatures``.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        low: temperature of the sample with the highest agreement, above 0.
        high: temperature of the sample with the lowest agreement.
        alpha: factor on the loss.
        eps: as in ``cosine_similarity_kd``.

    Returns:
        A scalar; it depends on the batch.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Ham et al. 2023, arXiv:2311.14307 (cosine similarity weighted temperature); as released, the factor
        is the squared mean temperature, not one per sample.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> cswt(student, teacher)
        tensor(0.0490)
    """
    positive(low=low, high=high)
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    temperatures = _temperatures(s, t, low, high)
    factor = temperatures.mean().square() * alpha
    return _columns(student, s, t, temperatures[:, None], factor, eps)


def cswt_temperatures(student: Logits, teacher: Logits, *, low: float = 2.0, high: float = 6.0) -> Rows:
    r"""Temperature of each sample, from the cosine of the two networks' probabilities at T = 1.

    .. math:: T_i = T_{low} + (T_{high} - T_{low}) \frac{s_{max} - s_i}{s_{max} - s_{min}}

    Args:
        student: logits ``(N, C)``; no gradient passes.
        teacher: logits ``(N, C)``.
        low: temperature at the batch's highest cosine.
        high: temperature at its lowest.

    Returns:
        ``(N,)``. Where all cosines are equal (a batch of one), all are ``low``; the released code divides
        by zero there.

    Source:
        Ham et al. 2023, arXiv:2311.14307.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> cswt_temperatures(student, teacher)
        tensor([2., 6.])
    """
    return _temperatures(*pair(student, teacher), low, high)


def _temperatures(s: Tensor, t: Tensor, low: float, high: float) -> Tensor:
    if not s.numel():
        return s.new_full((len(s),), low)
    p, q = torch.softmax(s, 1), torch.softmax(t, 1)
    sizes = torch.linalg.vector_norm(p, dim=1) * torch.linalg.vector_norm(q, dim=1)
    cos = p.mul_(q).sum(1).div_(sizes.add_(1e-8))
    least, most = torch.aminmax(cos)
    spread = torch.threshold(most - least, 1e-8, math.inf)
    return (most - cos).div_(spread).mul_(high - low).add_(low)


def _columns(
    student: Tensor, s: Tensor, t: Tensor, temperature: float | Tensor, factor: float | Tensor, eps: float
) -> Tensor:
    """``factor * (1 - mean column cosine)`` with its gradient."""
    if isinstance(temperature, Tensor):
        p, q = torch.softmax(s / temperature, 1), torch.softmax(t / temperature, 1)
    else:
        p, q = probabilities(s, temperature), probabilities(t, temperature)
    cos, x, y = aligned(p, q, 0, eps)
    value = (1 - cos.mean()) * factor
    if not wants_gradient(student):
        return value
    share = -factor / cos.numel()
    gradient = q.mul_(y * share).addcmul_(p, x * share)
    through_softmax(p, gradient)
    return known(student, value, gradient.div_(temperature))
