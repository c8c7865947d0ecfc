"""DSKD's cross-model attention: states of two tokenisations in each other's space."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..shapes import IGNORE, Features, Value
from ._common import exact
from .chunked import Head, chunked_cross_entropy, chunked_divergence, length
from .tokens import Items


class CrossAttended(NamedTuple):
    """Terms of ``cross_space``.

    Attributes:
        student_space: pulls the student to the attended teacher as the student's head reads it.
        projector: trains the attention and the way from the teacher's space by the labels.
        teacher_space: pulls the attended student, as the teacher's head reads it, to the teacher.
        agreed: tokens at which the attended teacher says the label.
    """

    student_space: Value
    projector: Value
    teacher_space: Value
    agreed: Tensor


def cross_attention(
    query: Features,
    key: Features,
    student_values: Features,
    teacher_values: Features,
    student_mask: Tensor,
    teacher_mask: Tensor,
) -> tuple[Tensor, Tensor]:
    r"""Each side's states in the other's positions, by one attention read both ways.

    .. math:: A = \frac{Q K^\top}{\sqrt{w}} - 10^5 (1 - m_s m_t^\top), \quad
              u = \operatorname{softmax}_m(A) V_t, \quad v = \operatorname{softmax}_n(A^\top) V_s

    Args:
        query: of the student's tokens ``(B, n, w)``, from a trained projector.
        key: of the teacher's tokens ``(B, m, w)``.
        student_values: student states in the teacher's space ``(B, n, D)``.
        teacher_values: teacher states in the student's space ``(B, m, d)``.
        student_mask, teacher_mask: which positions count ``(B, n)``, ``(B, m)``.

    Returns:
        u ``(B, n, d)`` and v ``(B, m, D)``. Rows that do not count attend evenly and mean nothing.

    Raises:
        ShapeError: widths or batches do not fit.

    Source:
        DSKD, arXiv:2406.17328, checked against the released code.

    Example:
        >>> one, known = torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
        >>> u, v = cross_attention(one, one, one, one[..., :2], known, known)
        >>> tuple(u.shape), tuple(v.shape)
        ((1, 2, 2), (1, 2, 3))
    """
    if query.shape[-1] != key.shape[-1] or len(query) != len(key):
        raise ShapeError(
            "queries and keys do not fit",
            got=f"{tuple(query.shape)} and {tuple(key.shape)}",
            expected="(B, n, w) and (B, m, w)",
        )
    with exact(query):
        both = student_mask[:, :, None] & teacher_mask[:, None]
        query, key, mine, theirs = (
            x.float() if x.dtype.itemsize < 4 else x for x in (query, key, student_values, teacher_values)
        )
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        scores = scores.add((~both).to(scores.dtype), alpha=-1e5)
        return scores.softmax(2) @ theirs, scores.mT.softmax(2) @ mine


def cross_space(
    student: Features,
    student_head: Head,
    teacher: Features,
    teacher_head: Head,
    to_student: Features,
    to_teacher: Features,
    student_labels: Tensor,
    teacher_labels: Tensor,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    num_items: Items | None = None,
    chunk: int | None = None,
) -> CrossAttended:
    r"""Terms of dual-space KD where the two models have positions of their own.

    With :math:`z^{t2s} = W^s u` at the student's positions and :math:`z^{s2t} = W^t v` at the teacher's:

    ================= ==================================================================================
    ``student_space`` :math:`\frac1N \sum_i [\arg\max z^{t2s}_i = y_i] \, D(z^s_i, z^{t2s}_i / \tau_t)`
    ``projector``     :math:`\frac1N \sum_i CE(z^{t2s}_i, y_i)`, trains u alone
    ``teacher_space`` :math:`\frac1N \sum_j KL(z^t_j \| z^{s2t}_j)`, trains v alone
    ================= ==================================================================================

    Args:
        student, teacher: hidden states ``(..., d)`` and ``(..., D)``.
        student_head, teacher_head: the heads.
        to_student: u, at the student's positions ``(..., d)``.
        to_teacher: v, at the teacher's positions ``(..., D)``.
        student_labels, teacher_labels: already shifted, -100 leaves a position out.
        divergence, temperature, beta, alpha, mu: of D; ``temperature`` of the last term too.
        teacher_temperature: further divides the attended teacher's logits.
        num_items: N; by default the student's labelled positions.
        chunk: positions at a time.

    Raises:
        ConfigError: a teacher temperature beside a soft cap on the student's logits.

    Source:
        DSKD with cross-model attention, arXiv:2406.17328, checked against the released code.

    Example:
        >>> states, head, labels = torch.eye(3), Head(torch.eye(3)), torch.arange(3)
        >>> float(cross_space(states, head, states, head, states, states, labels, labels).teacher_space)
        0.0
    """
    if teacher_temperature != 1 and student_head.softcap is not None:
        raise ConfigError(
            "a teacher temperature cannot be told from a soft cap", fix="set teacher_temperature=1"
        )
    bias = student_head.bias
    frozen = replace(
        student_head, weight=student_head.weight.detach(), bias=None if bias is None else bias.detach()
    )
    known = student_labels != IGNORE
    items = max(int(known.sum()), 1) if num_items is None else num_items
    right = known & (_choice(to_student, frozen, chunk) == student_labels)
    common: dict[str, Any] = {"reduction": "sum", "temperature": temperature, "chunk": chunk}
    own = chunked_divergence(
        student,
        student_head,
        to_student.detach(),
        replace(frozen, scale=frozen.scale / teacher_temperature),
        student_labels.masked_fill(~right, IGNORE),
        divergence=divergence, beta=beta, alpha=alpha, mu=mu, **common,
    )  # fmt: skip
    there = chunked_divergence(to_teacher, teacher_head, teacher, teacher_head, teacher_labels, **common)
    learnt = chunked_cross_entropy(to_student, frozen, student_labels, reduction="sum", chunk=chunk)
    return CrossAttended(own / items, learnt / items, there / items, right.sum())


@torch.no_grad()
def _choice(states: Tensor, head: Head, chunk: int | None) -> Tensor:
    """What a head finds likeliest."""
    rows = states.flatten(0, -2)
    size = chunk or length(len(head.weight))
    found = [head(piece.to(head.weight.dtype)).argmax(-1) for piece in torch.split(rows, size)]
    return torch.cat(found).view(states.shape[:-1]) if found else rows.new_zeros(0, dtype=torch.long)


__all__ = ["CrossAttended", "cross_attention", "cross_space"]
