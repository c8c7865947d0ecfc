"""Alignment of a batch, as index tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..errors import ShapeError
from .align import Positions, exact_pairs, groups
from .spans import Spans

PairIndex = Int[Tensor, "pairs"]
"""One position per pair."""

GroupIndex = Int[Tensor, "groups"]
"""One number per group."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of positions in a batch, one index tensor each, ``(P,)``.

    Attributes:
        rows: which sequence of the batch.
        student: position in the student's sequence.
        teacher: position in the teacher's sequence.
    """

    rows: PairIndex
    student: PairIndex
    teacher: PairIndex

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Pairs:
        """The same on another device."""
        return Pairs(self.rows.to(device), self.student.to(device), self.teacher.to(device))


@dataclass(frozen=True, eq=False)
class Groups:
    """Runs of tokens with the same bytes on both sides, numbered through the batch in order.

    Attributes:
        student: group of each position, -1 for none, ``(B, T_s)``.
        teacher: group of each position, -1 for none, ``(B, T_t)``.
        rows: which sequence each group is of, ``(G,)``.
    """

    student: Int[Tensor, "batch student_length"]
    teacher: Int[Tensor, "batch teacher_length"]
    rows: GroupIndex

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Groups:
        """The same on another device."""
        return Groups(self.student.to(device), self.teacher.to(device), self.rows.to(device))


def align_pairs(
    student: Sequence[Spans],
    teacher: Sequence[Spans],
    *,
    student_mask: Bool[Tensor, "batch student_length"],
    teacher_mask: Bool[Tensor, "batch teacher_length"],
) -> Pairs:
    """Exact pairs of a batch, among the tokens that the masks keep.

    Args:
        student: spans of each sequence, from its first position on.
        teacher: likewise, in the same texts.
        student_mask: which tokens to use, such as those of the answer; the position is the token's own.
        teacher_mask: likewise.

    Returns:
        The pairs, by row.

    Raises:
        ShapeError: unlike numbers of sequences, or a sequence longer than its mask.
    """
    rows, left, right = [], [], []
    for row, s, at_s, t, at_t in _rows(student, teacher, student_mask, teacher_mask):
        a, b = exact_pairs(s, t)
        rows.append(np.full(len(a), row))
        left.append(at_s[a])
        right.append(at_t[b])
    return Pairs(_joined(rows), _joined(left), _joined(right))


def align_groups(
    student: Sequence[Spans],
    teacher: Sequence[Spans],
    *,
    student_mask: Bool[Tensor, "batch student_length"],
    teacher_mask: Bool[Tensor, "batch teacher_length"],
) -> Groups:
    """Groups of a batch, among the tokens that the masks keep.

    Args:
        student: spans of each sequence, from its first position on.
        teacher: likewise, in the same texts.
        student_mask: which tokens to use, such as those of the answer; the position is the token's own.
        teacher_mask: likewise.

    Returns:
        The groups, numbered through the batch. Each has tokens on both sides and the same bytes.

    Raises:
        ShapeError: unlike numbers of sequences, or a sequence longer than its mask.
    """
    left = np.full(student_mask.shape, -1, np.int64)
    right = np.full(teacher_mask.shape, -1, np.int64)
    rows, total = [], 0
    for row, s, at_s, t, at_t in _rows(student, teacher, student_mask, teacher_mask):
        a, b, count = groups(s, t)
        left[row, at_s], right[row, at_t] = np.where(a < 0, -1, a + total), np.where(b < 0, -1, b + total)
        rows.append(np.full(count, row))
        total += count
    return Groups(torch.from_numpy(left), torch.from_numpy(right), _joined(rows))


def _rows(
    student: Sequence[Spans], teacher: Sequence[Spans], student_mask: Tensor, teacher_mask: Tensor
) -> list[tuple[int, Spans, Positions, Spans, Positions]]:
    """The masked spans of each sequence and their positions."""
    if not len(student) == len(teacher) == len(student_mask) == len(teacher_mask):
        sizes = (len(student), len(teacher), len(student_mask), len(teacher_mask))
        raise ShapeError(
            "spans and masks are of unlike batches", got=sizes, expected="one number of sequences"
        )
    found = []
    masks = student_mask.cpu().numpy(), teacher_mask.cpu().numpy()
    for row, sides in enumerate(zip(student, teacher)):
        parts: list[tuple[Spans, Positions]] = []
        for side, mask in zip(sides, masks):
            if len(side) > mask.shape[1]:
                raise ShapeError(
                    "spans are longer than the mask", got=len(side), expected=f"{mask.shape[1]} at most"
                )
            at = np.flatnonzero(mask[row, : len(side)])
            parts.append((Spans(side.bounds[at], side.roles[at]), at))
        (s, at_s), (t, at_t) = parts
        found.append((row, s, at_s, t, at_t))
    return found


def _joined(parts: list[Positions]) -> Tensor:
    return (
        torch.from_numpy(np.concatenate(parts).astype(np.int64))
        if parts
        else torch.zeros(0, dtype=torch.int64)
    )
