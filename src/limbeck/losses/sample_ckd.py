"""Sample-wise contrastive KD: each teacher vector of logits picks its student partner in the batch."""

from __future__ import annotations

import torch

from ..shapes import Logits, Value
from ._common import exact, known, nothing, pair, positive, wants_gradient
from ._cosine import through_unit, unit


def sample_ckd(
    student: Logits,
    teacher: Logits,
    *,
    temperature: float = 1.0,
    chunk_size: int | None = None,
    eps: float = 1e-12,
) -> Value:
    r"""InfoNCE over the batch, between the directions of both networks' logits.

    With :math:`n(z) = z / |z|` and :math:`M_{ij} = \langle n(z^t_i), n(z^s_j) \rangle`,

    .. math:: -\tfrac1N \sum_i \log \frac{\exp(M_{ii} / \tau)}{\sum_j \exp(M_{ij} / \tau)} .

    Args:
        student: logits ``(N, C)``.
        teacher: logits ``(N, C)``, never differentiated.
        temperature: tau, divides the cosines, above 0.
        chunk_size: rows of M made at once; None keeps it whole up to 4096 samples. Value and gradient do not
            depend on it.
        eps: a vector shorter than this counts as zero.

    Returns:
        A scalar. It compares samples: one row gives 0 without a gradient. At tau = 1 it cannot fall below
        log(1 + (N - 1) exp(-2)).

    Raises:
        ShapeError: the shapes differ.

    Source:
        Zhu et al. 2024, arXiv:2404.14109 (CKD); checked against ``contrastive_loss`` of ZhouXinzzzzz/CKD.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]])
        >>> sample_ckd(student, teacher)
        tensor(0.5032)
    """
    positive(temperature=temperature, eps=eps)
    if chunk_size is not None:
        positive(chunk_size=chunk_size)
    s, t = pair(student, teacher)
    if not student.numel():
        return nothing(student)
    n = len(s)
    chunk = chunk_size or (n if n <= 4096 else max(1, 2**24 // n))
    direction, size = unit(s, 1, eps)
    anchors = unit(t, 1, eps)[0]
    if temperature != 1:
        anchors /= temperature
    gradient = torch.zeros_like(s) if wants_gradient(student) else None
    parts = []
    with exact(s):
        for start in range(0, n, chunk):
            some = anchors[start : start + chunk]
            log_p = torch.log_softmax(some @ direction.T, 1)
            parts.append(log_p.diagonal(start).sum())
            if gradient is not None:
                log_p.exp_().diagonal(start).sub_(1)
                gradient.addmm_(log_p.T, some)
    value = torch.stack(parts).sum() / -n
    if gradient is not None:
        gradient = through_unit(direction, size.mul_(n), gradient, 1)
    return known(student, value, gradient)
