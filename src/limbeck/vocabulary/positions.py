"""Alignment by position: the k-th supervised token with the k-th."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import ShapeError
from .batch import Pairs


def position_pairs(
    student_mask: Bool[Tensor, "batch student_length"],
    teacher_mask: Bool[Tensor, "batch teacher_length"],
) -> Pairs:
    """Pair the supervised tokens of both sides in their order, until the shorter answer ends.

    Args:
        student_mask: supervised positions of the student.
        teacher_mask: supervised positions of the teacher.

    Returns:
        The pairs, by row. No bytes are compared: what is paired need not be the same text.

    Raises:
        ShapeError: unlike numbers of sequences.

    Source:
        Universal logit distillation, Boizard et al. 2024, arXiv:2402.12030; pairs as in Nicolas-BZRD/llm-recipes.

    Example:
        >>> pairs = position_pairs(torch.tensor([[False, True, True]]), torch.tensor([[True, True, True]]))
        >>> pairs.student, pairs.teacher
        (tensor([1, 2]), tensor([0, 1]))
    """
    if len(student_mask) != len(teacher_mask):
        sizes = (len(student_mask), len(teacher_mask))
        raise ShapeError("masks are of unlike batches", got=sizes, expected="one number of sequences")
    teacher_mask = teacher_mask.to(student_mask.device)
    count = torch.minimum(student_mask.sum(1), teacher_mask.sum(1))[:, None]
    first_s = student_mask & (student_mask.cumsum(1) <= count)
    first_t = teacher_mask & (teacher_mask.cumsum(1) <= count)
    rows, student = first_s.nonzero(as_tuple=True)
    return Pairs(rows, student, first_t.nonzero(as_tuple=True)[1])
