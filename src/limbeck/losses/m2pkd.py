"""M2PKD: one cosine between whole batches of features, trusted as far as the teacher is good."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Value
from ._common import choice, nothing, wide

Rule = Literal["clipped", "released"]


def flat_cosine(student: Tensor, teacher: Tensor, *, eps: float = 1e-8) -> Value:
    r"""``1 - cos(vec(F_s), vec(F_t))`` of two batches of features of one shape.

    It is one cosine for the whole batch: samples with long features count more.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D)``, never differentiated.
        eps: keeps the cosine of zero features at 0.

    Returns:
        A scalar in [0, 2]; 0 without rows.

    Raises:
        ShapeError: the shapes differ.

    Source:
        Aslam et al., CVPRW 2023 (M2PKD), read in the authors' code.

    Example:
        >>> flat_cosine(torch.eye(2), torch.eye(2).flip(0)), flat_cosine(torch.eye(2), -torch.eye(2))
        (tensor(1.), tensor(2.))
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            "student and teacher features do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="one shape for both",
        )
    if not student.numel():
        return nothing(student.flatten(1))
    y = wide(teacher, student.dtype).flatten()
    x = student.to(y.dtype).flatten()
    length = torch.linalg.vector_norm(x).clamp(min=eps) * torch.linalg.vector_norm(y).clamp(min=eps)
    value: Tensor = 1 - (x * y).sum() / length
    return value


def trust(error: Tensor, *, rule: Rule = "clipped", threshold: float = 1.0, most: float = 1.0) -> Tensor:
    r"""Weight b in [0, 1] of a teacher whose batch error is g, against 1 - b of the labels.

    ``clipped`` (**reconstructed** from the prose, not the authors' rule): ``most * clip(1 - g / threshold, 0, 1)``.
    ``released``, with ``threshold`` 0.2: ``0.2 + g`` where g is at most the threshold or above 1, else 1; so a
    mediocre teacher switches the labels off, and for g above 1 the labels' weight would be negative: cut at 1 here.

    Example:
        >>> trust(torch.tensor([0.1, 0.5, 2.0])), trust(torch.tensor([0.1, 0.5]), rule="released", threshold=0.2)
        (tensor([0.9000, 0.5000, 0.0000]), tensor([0.3000, 1.0000]))
    """
    choice("rule", rule, ("clipped", "released"))
    error = error.detach()
    if rule == "clipped":
        weight: Tensor = most * (1 - error / threshold).clamp(0, 1)
        return weight
    near = (error <= threshold) | (error > 1)
    return torch.where(near, 0.2 + error, torch.ones_like(error)).clamp(max=1)
