"""GOLD: universal logit distillation on groups of tokens that spell the same bytes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError
from ..shapes import Value
from ._common import Reduction, check_reduction, choice, positive, wide

FLOOR = 1e-8
"""Least probability of a token that is multiplied in, and of a shared entry."""


def gold(
    student: Tensor,
    teacher: Tensor,
    tokens: tuple[Tensor, Tensor],
    groups: tuple[Tensor, Tensor],
    *,
    shared: tuple[Tensor, Tensor] | None = None,
    weights: tuple[float, float] | None = None,
    merge: str = "bayesian",
    beta: float = 0.5,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor | Value:
    r"""Distance of what both models say about groups of tokens, whatever their vocabularies.

    Group g has tokens :math:`1 \dots k` of one side; its distribution is that of one token times the probability of
    the other tokens as they are written (at least 1e-8), which is no longer a distribution where k > 1:

    .. math:: q_g = q(\cdot \mid 1 \dots k-1) \prod_{i < k} q_i \quad \text{(bayesian)}, \qquad
              q_g = q(\cdot \mid \,) \prod_{i > 1} q_i \quad \text{(observed)}

    Without ``shared`` the value of a group is ULD's :math:`\sum_r |q_{g,(r)} - p_{g,(r)}|` over ranks. With it, it is
    :math:`w_1\, JSD_\beta(p_S, q_S) + w_2 \sum_r |q_{R,(r)} - p_{R,(r)}|` with the shared entries S, none below 1e-8
    and not normalised anew, and the rest R; the second part is 0 where R is empty on either side.

    Args:
        student, teacher: logits of the supervised tokens ``(N_s, V_s)`` and ``(N_t, V_t)``, each row about the token
            that ``tokens`` has there; the teacher is never differentiated.
        tokens: their ids, ``(N_s,)`` and ``(N_t,)``.
        groups: the group of each token, ``(N_s,)`` and ``(N_t,)``, -1 for none; G groups, numbered from 0, each with
            tokens on both sides (``limbeck.vocabulary.groups``).
        shared: ids of the entries that both vocabularies have, ``(S,)`` each, or None.
        weights: of shared entries and of the rest; None takes the share of the teacher's vocabulary that is shared.
        merge: ``bayesian``, the chain rule, or ``observed``.
        beta: the teacher's weight in the divergence; 0 is forward, 1 reverse KL.
        temperature: divides both logits.
        reduction: ``mean`` over groups, ``sum`` or ``none``.

    Returns:
        A scalar, 0 and connected to the graph where there is no group; or ``(G,)``.

    Raises:
        ShapeError: numbers of rows differ, or a group has tokens on one side only.
        ConfigError: an option is not valid.

    Source:
        GOLD of TRL 1.16 (``ULDLoss``). Its "observed" reads logits of the token itself instead of those before it,
        one position late; here rows of logits are always about their token.

    Example:
        >>> student, teacher = torch.zeros(2, 3), torch.zeros(1, 2)
        >>> tokens, groups = (torch.tensor([0, 1]), torch.tensor([1])), (torch.tensor([0, 0]), torch.tensor([0]))
        >>> gold(student, teacher, tokens, groups)
        tensor(0.8889)
    """
    check_reduction(reduction)
    choice("merge", merge, ("bayesian", "observed"))
    positive(temperature=temperature)
    sides = []
    for name, logits, ids, group in zip(
        ("student", "teacher"), (student, teacher.detach()), tokens, groups, strict=True
    ):
        if not len(logits) == len(ids) == len(group):
            raise ShapeError(
                f"the {name}'s logits, tokens and groups do not fit",
                got=f"{len(logits)} rows of logits, {len(ids)} tokens, {len(group)} groups",
                expected="one token and one group for each row",
            )
        precise = logits.to(torch.promote_types(logits.dtype, wide(student).dtype))
        tempered = precise if temperature == 1 else precise / temperature
        sides.append(_merged(tempered, ids, group, merge == "bayesian"))
    q, p = sides
    if len(q) != len(p):
        raise ShapeError(
            "a group has tokens on one side only",
            got=f"{len(q)} groups of the student, {len(p)} of the teacher",
        )
    if not len(q):
        return student.sum() * 0.0 if reduction != "none" else student.new_zeros(0)
    values = _by_rank(q, p) if shared is None else _hybrid(q, p, shared, weights, beta)
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()


def _merged(logits: Tensor, tokens: Tensor, groups: Tensor, last: bool) -> Tensor:
    """What each group says, ``(G, V)``: probabilities of its last or first token, times those of its others."""
    inside = (groups >= 0).nonzero().squeeze(1)
    group, count = groups[inside], int(groups.max().item()) + 1 if len(groups) else 0
    p = torch.softmax(logits if len(inside) == len(logits) else logits[inside], 1)
    rows = torch.arange(len(inside), device=p.device)
    base = torch.full((count,), -1, device=p.device)
    base = base.scatter_reduce(0, group, rows, "amax" if last else "amin", include_self=False)
    if (base < 0).any():
        raise ShapeError("a group has tokens on one side only", got=f"group {int((base < 0).nonzero()[0])}")
    if count == len(inside):
        return p[base]
    written = p.gather(1, tokens[inside, None]).squeeze(1).clamp(min=FLOOR).log()
    others = torch.zeros(count, dtype=p.dtype, device=p.device)
    others = others.index_add(0, group, written.masked_fill(rows == base[group], 0.0))
    return p[base] * others[:, None].exp()


def _by_rank(q: Tensor, p: Tensor) -> Tensor:
    """L1 distance of sorted rows; the shorter ones are continued with zeros."""
    width = max(q.shape[1], p.shape[1])
    ours, theirs = (
        F.pad(x.sort(1, descending=True).values, (0, width - x.shape[1])).to(q.dtype) for x in (q, p)
    )
    return (ours - theirs).abs().sum(1)


def _hybrid(
    q: Tensor, p: Tensor, shared: tuple[Tensor, Tensor], weights: tuple[float, float] | None, beta: float
) -> Tensor:
    """A divergence on shared entries, ranks on the rest."""
    ours, theirs = shared
    part = len(theirs) / max(p.shape[1], 1)
    near, far = (part, 1 - part) if weights is None else weights
    log_q, log_p = (x.to(q.dtype).clamp(min=FLOOR).log() for x in (q[:, ours], p[:, theirs]))
    value = near * _jsd(log_q, log_p, beta)
    rest_q, rest_p = (_without(x, ids) for x, ids in ((q, ours), (p, theirs)))
    if rest_q.shape[1] and rest_p.shape[1]:
        value = value + far * _by_rank(rest_q, rest_p)
    return value


def _jsd(log_q: Tensor, log_p: Tensor, beta: float) -> Tensor:
    """``beta KL(p | m) + (1 - beta) KL(q | m)`` of rows that need not add up to 1; a single KL at the ends."""
    if beta in (0, 1):
        first, second = (log_q, log_p) if beta else (log_p, log_q)
        return (first.exp() * (first - second)).sum(1)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return (beta * log_p.exp() * (log_p - log_m) + (1 - beta) * log_q.exp() * (log_q - log_m)).sum(1)


def _without(x: Tensor, columns: Tensor) -> Tensor:
    keep = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
    keep[columns] = False
    return x[:, keep]


__all__ = ["gold"]
