"""DCD: tell a student's sample from others, and make both directions of telling agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError
from ..shapes import Value, Vectors
from ._common import known, positive, wants_gradient


def dcd(
    student: Vectors,
    teacher: Vectors,
    scale: Tensor | float,
    *,
    bias: Tensor | float = 0.0,
    alpha: float = 0.5,
) -> Value:
    r"""In-batch contrast of embeddings, and the divergence of its two directions.

    With unit rows :math:`\hat a` of the student and :math:`\hat c` of the teacher, and
    :math:`S = \gamma\, \hat a \hat c^\top + b`,

    .. math:: \frac1N \sum_i -\log P_{ii} + \alpha \frac1N \sum_{ij} Q_{ij} \log \frac{Q_{ij}}{P_{ij}},
              \quad P = \mathrm{softmax}_{\mathrm{rows}}(S),
              \quad Q = \mathrm{softmax}_{\mathrm{columns}}(S)^\top .

    Args:
        student: projected embeddings ``(N, D)``.
        teacher: projected embeddings of the teacher on the same samples ``(N, D)``. **Differentiated** like
            the student's: the projection of the teacher is trained too.
        scale: inverse temperature :math:`\gamma`; a tensor without dimensions is differentiated.
        bias: added to every similarity. A constant cancels in both softmaxes: **its gradient is zero**.
        alpha: weight of the divergence.

    Returns:
        A scalar; 0 for a batch of one, and for none.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Giakoumoglou, Stathaki 2024, arXiv:2407.11802; checked against giakoumoglou/distillers.

    Example:
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> dcd(student, student, 2.0)
        tensor(0.1269)
    """
    a, c = embeddings(student, teacher)
    if not len(a):
        return (a.sum() + c.sum()) * 0
    if not isinstance(scale, Tensor):
        positive(scale=scale)
    a = a * scale
    shift = torch.as_tensor(bias, dtype=a.dtype, device=a.device)
    return _both_ways(torch.addmm(shift, a, c.T), alpha)


def embeddings(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows of both, in one precision, float32 at least, with their graphs.

    Raises:
        ShapeError: the two are not matrices of one shape.
    """
    check_embeddings(student, teacher)
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return F.normalize(student.to(dtype), dim=1), F.normalize(teacher.to(dtype), dim=1)


def check_embeddings(student: Tensor, teacher: Tensor, *, same_width: bool = True) -> None:
    """Refuse what is not one row per sample on both sides, of one width where that is asked for."""
    fits = student.dim() == teacher.dim() == 2 and len(student) == len(teacher)
    if not fits or (same_width and student.shape != teacher.shape):
        raise ShapeError(
            "student and teacher embeddings do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same (N, D) for both" if same_width else "(N, D) and (N, E)",
            fix="project both to one width first" if same_width else "give both networks the same samples",
        )


def _both_ways(similarity: Tensor, alpha: float) -> Tensor:
    """The loss of ``S`` with its gradient; ``Q`` is kept transposed, as the softmax of columns."""
    x, n = similarity.detach(), len(similarity)
    log_p = x.log_softmax(1)
    p = log_p.exp()
    value = -log_p.diagonal().sum()
    gradient = p.clone() if wants_gradient(similarity) else None
    if alpha:
        log_q = x.log_softmax(0)
        q = log_q.exp()
        log_q -= log_p.T
        divergence = (q * log_q).sum(0)
        value += alpha * divergence.sum()
        if gradient is not None:
            log_q -= divergence
            gradient.add_(p, alpha=alpha).sub_(q.T, alpha=alpha).addcmul_(q, log_q, value=alpha)
    if gradient is not None:
        gradient.diagonal().sub_(1)
        gradient.div_(n)
    return known(similarity, value / n, gradient)
