"""MinED: a teacher's distribution re-indexed to the student's vocabulary, where tokens match by edit distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError
from ..shapes import Logits, Value
from .tokens import token_divergence


def mined(
    student: Logits,
    teacher: Tensor,
    labels: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
) -> Value:
    r"""Forward KL from the teacher where a token of its own stands for the student's, cross-entropy elsewhere.

    .. math:: \frac1N \Big( \sum_{i \in A} KL(\tilde p_i \| q_i) + \sum_{i \notin A} -\log q_{i, y_i} \Big), \quad
              \tilde p_{i,k} \propto p_{i, c(k)}

    Args:
        student: logits ``(N, V)`` of the supervised tokens.
        teacher: the teacher's logits ``(A, V')`` for the matched rows, never differentiated.
        labels: the student's tokens ``(N,)``.
        rows: which rows of ``student`` are matched ``(A,)``.
        columns: c, for each of the student's ids the teacher's, -1 where there is none ``(V,)``; those have no mass.
        temperature: divides both logits.
        reduction: ``mean`` over N, or ``sum``.

    Returns:
        A scalar; 0 and connected to the graph where N is 0.

    Raises:
        ShapeError: numbers of rows or columns do not fit.

    Source:
        Wan et al. 2024, arXiv:2401.10491 (FuseLLM), as released with DSKD (songmzhang/DSKD 077337a); a one-hot target
        is there a logit of 100, an absent column one of -100,000.

    Example:
        >>> logits, y = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> mined(logits, torch.zeros(1, 2), y, torch.tensor([0]), torch.tensor([0, 1, -1]))
        tensor(0.7520)
    """
    if len(teacher) != len(rows) or student.shape[1] != len(columns) or len(labels) != len(student):
        raise ShapeError(
            "logits, rows and columns do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, {len(rows)} rows, "
            f"{len(columns)} columns, {len(labels)} labels",
            expected="a row of the teacher for each matched row, a column for each of the student's ids",
        )
    wide = student.float() if student.dtype.itemsize < 4 else student
    target = teacher.detach().to(wide.dtype)[:, columns.clamp(min=0)].masked_fill(columns < 0, -1e5)
    matched = torch.zeros(len(student), dtype=torch.bool, device=student.device)
    matched[rows] = True
    near = token_divergence(wide[rows], target, temperature=temperature, reduction="sum")
    far = F.cross_entropy(wide[~matched] / temperature, labels[~matched], reduction="sum")
    return (near + far) / (1 if reduction == "sum" else max(len(student), 1))


__all__ = ["mined"]
