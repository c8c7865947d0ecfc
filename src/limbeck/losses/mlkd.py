"""Relations of multi-level logit distillation: what samples, and what classes, have to do with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Logits, Value
from ._common import (
    exact,
    known,
    nothing,
    pair,
    positive,
    probabilities,
    through_softmax,
    wants_gradient,
    wide,
)


def mlkd_batch(
    student: Logits, teacher: Logits, *, temperature: float = 4.0, mask: Tensor | None = None
) -> Value:
    r"""Squared difference of the Gram matrices of samples.

    With :math:`P = \mathrm{softmax}(z / T)`,

    .. math:: \frac1N \sum_i m_i \sum_j \big( P^t P^{t\top} - P^s P^{s\top} \big)_{ij}^2 .

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: divides the logits, above 0; the loss is not multiplied by it.
        mask: m, which samples count ``(N,)``; None: all.

    Returns:
        A scalar; it compares samples.

    Raises:
        ShapeError: the shapes do not fit.

    Source:
        Jin, Wang, Lin, CVPR 2023; checked against ``bc_loss`` of Jin-Ying/Multi-Level-Logit-Distillation.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> mlkd_batch(student, teacher, temperature=1.0)
        tensor(0.0967)
    """
    return _gram(student, teacher, temperature, mask, samples=True)


def mlkd_class(
    student: Logits, teacher: Logits, *, temperature: float = 4.0, mask: Tensor | None = None
) -> Value:
    r"""Squared difference of the Gram matrices of classes.

    With :math:`P = \mathrm{softmax}(z / T)`,

    .. math:: \frac1C \sum_k m_k \sum_l \big( P^{t\top} P^t - P^{s\top} P^s \big)_{kl}^2 .

    The entries are sums over the batch: the loss grows with the square of its size.

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: divides the logits, above 0; the loss is not multiplied by it.
        mask: m, which classes count ``(C,)``; None: all.

    Returns:
        A scalar; it compares samples.

    Raises:
        ShapeError: the shapes do not fit.

    Source:
        Jin, Wang, Lin, CVPR 2023; checked against ``cc_loss`` of Jin-Ying/Multi-Level-Logit-Distillation.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> mlkd_class(student, teacher, temperature=1.0)
        tensor(0.3912)
    """
    return _gram(student, teacher, temperature, mask, samples=False)


@torch.no_grad()
def low_confidence(teacher: Logits) -> tuple[Tensor, Tensor]:
    """Which samples and which classes the teacher is least sure of.

    Args:
        teacher: logits ``(N, C)``, at least one row.

    Returns:
        For each sample whether its largest probability is at most the batch's median ``(N,)``; for each class
        whether its sum of probabilities over the batch is at most the classes' median ``(C,)``.

    Example:
        >>> low_confidence(torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        (tensor([ True, False]), tensor([ True, False]))
    """
    p = torch.softmax(wide(teacher), 1)
    samples, classes = p.amax(1), p.sum(0)
    return samples <= _median(samples), classes <= _median(classes)


def _median(x: Tensor) -> Tensor:
    """Middle of a vector, between the two middle ones of an even number; ``quantile(0.5)`` takes longer."""
    ordered, last = x.sort().values, len(x) - 1
    return torch.lerp(ordered[last // 2], ordered[(last + 1) // 2], 0.5)


def _gram(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None, samples: bool) -> Tensor:
    positive(temperature=temperature)
    s, t = pair(student, teacher)
    size = s.shape[0 if samples else 1]
    if mask is not None and mask.shape != (size,):
        raise ShapeError("the mask does not fit", got=tuple(mask.shape), expected=f"({size},)")
    if not student.numel():
        return nothing(student)
    p, q = probabilities(s, temperature), probabilities(t, temperature)
    a, b = (p, q) if samples else (p.T, q.T)
    with exact(s):
        difference = (a @ a.T).addmm_(b, b.T, alpha=-1)
        del q, b
        if mask is None:
            value: Tensor = torch.linalg.vector_norm(difference).square() / size
            weighted = difference
        else:
            weighted = difference * mask.to(difference.dtype)[:, None]
            value = (weighted * difference).sum() / size
            weighted = weighted.add_(weighted.T.clone()).div_(2)
        if not wants_gradient(student):
            return value
        gradient = weighted @ a
    gradient = gradient if samples else gradient.T.contiguous()
    return known(student, value, through_softmax(p, gradient.mul_(4 / size), temperature))
