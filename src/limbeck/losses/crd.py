"""CRD: a sample's two embeddings attract, those of other samples repel, by noise-contrastive estimation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..shapes import Labels, Value, Vectors
from ._common import known, positive, wants_gradient
from .dcd import embeddings

Constants = Float[Tensor, "2"]
"""What divides the exponential similarities of student and of teacher anchors."""

LARGE = 16
"""A memory of more vectors than this for each candidate is read row by row instead of as a whole."""


def crd(
    student: Vectors,
    teacher: Vectors,
    student_memory: Float[Tensor, "samples width"],
    teacher_memory: Float[Tensor, "samples width"],
    candidates: Int[Tensor, "rows choices"],
    *,
    constants: Constants | None = None,
    temperature: float = 0.07,
    eps: float = 1e-7,
) -> tuple[Value, Constants]:
    r"""Contrastive representation distillation with a memory of every sample.

    Each side's anchors :math:`v` (unit rows) are held against the *other* side's memory. With
    :math:`e_{ij} = \exp(\langle M_{c_{ij}}, v_i \rangle / T) / Z` and :math:`m = K / n`,

    .. math:: -\frac1N \sum_i \Big( \log \frac{e_{i0}}{e_{i0} + m + \epsilon}
              + \sum_{j=1}^{K} \log \frac{m}{e_{ij} + m + \epsilon} \Big),

    summed over both sides. :math:`n` is the number of samples; :math:`c_{i0}` is the positive.

    Args:
        student: projected embeddings ``(N, D)``; rows are scaled to length 1.
        teacher: projected embeddings ``(N, D)``, **differentiated**: the teacher's projection is trained too.
        student_memory: remembered student embeddings ``(n, D)``, never differentiated.
        teacher_memory: remembered teacher embeddings ``(n, D)``.
        candidates: sample numbers ``(N, 1 + K)``, the positive first.
        constants: :math:`Z` of student and teacher anchors; None takes n times this batch's mean exponential.
            The published code takes them from the first batch and keeps them.
        temperature: divides the similarities.
        eps: as published.

    Returns:
        The loss, and the constants that were used ``(2,)``. 0 without rows.

    Raises:
        ShapeError: the embeddings' shapes differ.

    Source:
        Tian, Krishnan, Isola, ICLR 2020, arXiv:1910.10699; checked against HobbitLong/RepDistiller. Scores
        come from one product with the memory, not from ``N * K`` gathered vectors.

    Example:
        >>> x = torch.eye(3)
        >>> value, constants = crd(x, x, x, x, torch.tensor([[0, 1, 2], [1, 0, 2], [2, 0, 1]]))
        >>> value
        tensor(1.0217)
    """
    positive(temperature=temperature)
    v_s, v_t = embeddings(student, teacher)
    sides = [(v, bank.detach().to(v.dtype)) for v, bank in ((v_s, teacher_memory), (v_t, student_memory))]
    scores = [_scores(v.detach(), memory, candidates) / temperature for v, memory in sides]
    if constants is None:
        means = [x.exp().mean() if x.numel() else x.new_ones(()) for x in scores]
        constants = torch.stack(means) * len(student_memory)
    logs = constants.to(v_s.dtype).log()
    total = v_s.new_zeros(())
    for (v, memory), x, log_z in zip(sides, scores, logs, strict=True):
        n, k = len(memory), candidates.shape[1] - 1
        x -= log_z
        value, slope = _noise_contrast(x, math.log(k / n) if k else -math.inf, eps)
        gradient = None
        if wants_gradient(v):
            gradient = _pull(slope, memory, candidates).div_(temperature * max(len(v), 1))
        total = total + known(v, value / max(len(v), 1), gradient)
    return total, constants


def crd_batch(
    student: Vectors,
    teacher: Vectors,
    labels: Labels,
    *,
    constants: Constants | None = None,
    temperature: float = 0.07,
) -> tuple[Value, Constants]:
    r"""The same contrast without a memory: the candidates are the other side's embeddings in the batch.

    Row i's negatives are the rows of other classes; their number :math:`K_i` takes the place of
    :math:`K = n m`, so memory grows with the batch squared and not with the data:

    .. math:: -\frac1N \sum_i \Big( \log \frac{e_{ii}}{e_{ii} + K_i}
              + \sum_{y_j \ne y_i} \log \frac{K_i}{e_{ij} + K_i} \Big),
              \quad e_{ij} = \exp(\langle w_j, v_i \rangle / T) / Z .

    Args:
        student: projected embeddings ``(N, D)``; rows are scaled to length 1.
        teacher: projected embeddings ``(N, D)``, **differentiated** as anchors.
        labels: class ids ``(N,)``. A row without any negative counts nothing.
        constants: :math:`Z`; None takes this batch's mean exponential.
        temperature: divides the similarities.

    Returns:
        The loss, and the constants that were used ``(2,)``. 0 without rows.

    Raises:
        ShapeError: the embeddings' shapes differ.

    Source:
        Limbeck's form. The candidates are constants, as remembered ones are; equal to ``crd`` where the memory
        is the batch, every row has the same number of negatives, and eps is 0.

    Example:
        >>> x = torch.eye(3)
        >>> crd_batch(x, x, torch.arange(3))[0]
        tensor(1.0217)
    """
    positive(temperature=temperature)
    v_s, v_t = embeddings(student, teacher)
    others = labels[:, None] != labels
    count = others.sum(1, keepdim=True).to(v_s.dtype).clamp_(min=1)
    valid = others.logical_or_(torch.eye(len(labels), dtype=torch.bool, device=labels.device))
    valid &= valid.sum() > len(labels)  # rows of a single class have no negatives
    scores = v_s.detach() @ v_t.detach().T / temperature
    e = scores.exp().mul_(valid)
    if constants is None:
        constants = torch.where(valid.any(), e.sum() / valid.sum().clamp(min=1), 1.0).expand(2)
    own, n, total = valid.diagonal().to(scores.dtype), max(len(labels), 1), v_s.new_zeros(())
    sides = ((v_s, v_t, e), (v_t, v_s, e.T))
    for (v, other, e), z in zip(sides, constants.to(v_s.dtype), strict=True):
        ratio = e / (z * count)
        pull = (scores.diagonal() - (z * count[:, 0]).log()).dot(own)
        value = (ratio.log1p().sum() - pull) / n
        gradient = None
        if wants_gradient(v):
            slope = ratio.div_(1 + ratio)
            slope.diagonal().sub_(own)
            gradient = slope @ other.detach() / (temperature * n)
        total = total + known(v, value, gradient)
    return total, constants


def _noise_contrast(x: Tensor, log_m: float, eps: float) -> tuple[Tensor, Tensor]:
    """Summed loss of ``log e`` with the positive in column 0, and its derivative; ``x`` is overwritten.

    ``log (e + m + eps) / m`` is a ``log1p``: of thousands of negatives each gives next to nothing, and that
    must not drown in the rounding of ``log m``.
    """
    pull = x[:, 0].sum()
    ratio = x.sub_(log_m).exp_()
    lift = eps * math.exp(-log_m) if eps else 0.0
    value = (ratio + lift).log1p_().sum() + len(x) * log_m - pull
    slope = ratio.div_(ratio + (1 + lift))
    slope[:, 0] -= 1
    return value, slope


def _scores(anchors: Tensor, memory: Tensor, candidates: Tensor) -> Tensor:
    """``<memory[candidates], anchor>``, ``(N, 1 + K)``."""
    if len(memory) <= LARGE * candidates.shape[1]:
        return (anchors @ memory.T).gather(1, candidates)
    rows = [memory[chosen] @ anchor for chosen, anchor in zip(candidates, anchors, strict=True)]
    return torch.stack(rows) if rows else anchors.new_zeros(candidates.shape)


def _pull(slope: Tensor, memory: Tensor, candidates: Tensor) -> Tensor:
    """``sum_j slope_ij memory[candidates_ij]``, ``(N, D)``."""
    if len(memory) <= LARGE * candidates.shape[1]:
        spread = slope.new_zeros(len(slope), len(memory)).scatter_add_(1, candidates, slope)
        return spread @ memory
    return torch.nn.functional.embedding_bag(candidates, memory, per_sample_weights=slope, mode="sum")
