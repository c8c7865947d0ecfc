"""Cosines between vectors of probabilities: the primitive that DIST, cosine KD and BicKD share."""

from __future__ import annotations

import torch
from torch import Tensor


def aligned(
    a: Tensor, b: Tensor, dim: int, eps: float, clamped: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine of each vector of ``a`` with its partner in ``b``, and its gradient.

    ``cos = <a, b> / (|a| |b| + eps)``; with ``clamped``, ``<a, b> / (max(|a|, eps) max(|b|, eps))``, whose
    gradient passes the clamp as in PyTorch's ``cosine_similarity``.

    Args:
        a: ``(N, C)``.
        b: ``(N, C)``.
        dim: the axis along which a vector lies: 1 for rows, 0 for columns.
        eps: keeps the cosine of a zero vector at 0.
        clamped: where eps goes.

    Returns:
        The cosines (with ``dim`` kept), and ``x``, ``y`` such that d cos / d a = ``x * a + y * b``.

    Example:
        >>> cos, x, y = aligned(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]]), 1, 0.0)
        >>> cos
        tensor([[0.9600]])
    """
    product = (a * b).sum(dim, keepdim=True)
    size_a = torch.linalg.vector_norm(a, dim=dim, keepdim=True)
    size_b = torch.linalg.vector_norm(b, dim=dim, keepdim=True)
    tiny = torch.finfo(a.dtype).tiny
    if clamped:
        floor = max(eps, tiny)
        clamped_a = size_a.clamp(min=floor)
        y = 1 / (clamped_a * size_b.clamp(min=floor))
        cos = product * y
        return cos, -cos / clamped_a / size_a.clamp(min=tiny), y
    y = 1 / (size_a * size_b + max(eps, tiny))
    cos = product * y
    return cos, -cos * y * (size_b / size_a.clamp(min=tiny)), y


def unit(x: Tensor, dim: int, eps: float) -> tuple[Tensor, Tensor]:
    """Vectors scaled to length 1 (a zero vector stays 0), and the lengths that they were divided by.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 1, 1e-8)
        (tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]]), tensor([[5.0000e+00],
                [1.0000e-08]]))
    """
    size = torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp_(min=eps)
    return x / size, size


def through_unit(direction: Tensor, size: Tensor, gradient: Tensor, dim: int) -> Tensor:
    """Turn, in place, a gradient for the unit vectors into one for the vectors."""
    gradient.addcmul_(direction, (gradient * direction).sum(dim, keepdim=True), value=-1)
    return gradient.div_(size)
