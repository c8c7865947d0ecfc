"""Divergences per token, for language models and anything else that speaks in rows of logits."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..shapes import IGNORE, Features, Value
from ._common import Reduction, check_reduction, known, reduced, wants_gradient, wide
from ._divergences import chosen

Items = int | float | Tensor
"""A number of things."""


def token_divergence(
    student: Features,
    teacher: Features,
    labels: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    scale: bool = False,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
    num_items: Items | None = None,
) -> Value | Features:
    r"""How far the student's next-token distribution q is from the teacher's p.

    Sums over the vocabulary, with :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)`:

    =================== ==============================================================================
    ``forward_kl``      :math:`\sum p (\log p - \log q)`
    ``reverse_kl``      :math:`\sum q (\log q - \log p)`
    ``jsd``             :math:`\beta KL(p|m) + (1-\beta) KL(q|m)`, :math:`m = \beta p + (1-\beta) q`: **beta
                        weighs the teacher** (TRL, Liger). As there, 0 is ``forward_kl`` and 1 ``reverse_kl``,
                        although the formula's own limits are 0
    ``skew_kl``         :math:`KL(p \,|\, \alpha p + (1-\alpha) q)`
    ``skew_reverse_kl`` :math:`KL(q \,|\, (1-\alpha) p + \alpha q)`, differentiated in the mixture too;
                        ``skew_reverse_kl_fixed`` is the same value without that (DistiLLM-2)
    ``adaptive_kl``     :math:`\frac{g_h}{g_h+g_t} KL(p|q) + \frac{g_t}{g_h+g_t} KL(q|p)`: g is
                        :math:`\sum |p - q|` over the head and over the tail, not differentiated. The tail is the
                        least probable classes of p that have :math:`\mu` of its mass. 1/2 each where p = q
    ``total_variation`` :math:`\frac12 \sum |p - q|`
    ``uld``             :math:`\sum_r |p_{(r)} - q_{(r)}|` over ranks, for any two vocabularies
    =================== ==============================================================================

    Everything is computed from logarithms in float32 at least. A logit of -inf rules a token out: shared ones
    change nothing, and where only one of the two models has it, the logarithm counts as -10000. A logit that is
    NaN stays NaN: it is a fault to be seen.

    Args:
        student: logits ``(N, V)`` or ``(B, T, V)``.
        teacher: logits of the same shape (another V for ``uld``), never differentiated.
        labels: ``(N,)`` or ``(B, T)``, **already shifted**: the token that the logits of this position should
            predict. -100 leaves a position out. None counts every position.
        divergence: one of the table.
        temperature: T, above 0.
        beta: teacher's weight in ``jsd``.
        alpha: share of the own distribution in the skewed mixtures.
        mu: mass of the tail in ``adaptive_kl``.
        scale: multiply by :math:`T^2`. TRL, Liger, DSKD and DistiLLM do not.
        weights: a factor for each position, shape of ``labels``; it does not change the divisor.
        reduction: ``mean`` over counted positions, ``sum``, or ``none`` (0 where left out).
        num_items: divisor of ``mean`` instead of the number of positions counted here, such as the number over
            all processes and accumulated pieces.

    Returns:
        A scalar, 0 connected to the graph where nothing counts; or the shape of ``labels``.

    Raises:
        ShapeError: shapes or vocabularies differ.
        ConfigError: an option is not valid.

    Source:
        GKD arXiv:2306.13649, DistiLLM arXiv:2402.03898, AKL arXiv:2404.02657, ULD arXiv:2402.12030; checked
        against TRL 1.16, DistiLLM, DSKD, KDFlow, ms-swift and torchtune.

    Example:
        >>> student, teacher = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [5.0, 0.0]])
        >>> token_divergence(student, teacher, torch.tensor([1, -100]))
        tensor(1.0068)
        >>> token_divergence(student, teacher, divergence="jsd", reduction="none")
        tensor([0.2081, 0.1993])
    """
    of = chosen(divergence, temperature, beta, alpha, mu, scale)
    check_reduction(reduction)
    if student.shape != teacher.shape and student.shape[:-1] != teacher.shape[:-1]:
        raise ShapeError(
            "student and teacher logits do not fit",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            expected="the same positions for both",
        )
    rows = counted(student.shape[:-1], labels)
    s, t = flat(student), flat(teacher)
    if rows is not None:
        s, t = s[rows], t[rows]
    value, gradient, total = of.raw(wide(s, t.dtype), wide(t, s.dtype))
    up, slope = of.scales
    factor = None
    if weights is not None:
        factor = weights.detach().flatten() if rows is None else weights.detach().flatten()[rows]
    if reduction == "none":
        found = reduced(s, value, gradient, "none", scale=up, slope=slope, weights=column(factor))
        return spread(found, rows, student.shape[:-1])
    share = 1.0 if reduction == "sum" else per_item(s.shape[0], num_items)
    up, slope = up * share, slope * share
    if factor is not None:
        return reduced(s, value, gradient, "sum", scale=up, slope=slope, weights=column(factor))
    return known(s, total.mul_(up), gradient if wants_gradient(s) else None, slope)


def flat(x: Tensor) -> Tensor:
    """Rows of the last dimension."""
    return x if x.dim() == 2 else x.flatten(0, -2)


def column(factor: Tensor | None) -> Tensor | None:
    """One number for each row, as a column."""
    return None if factor is None else factor[:, None]


def counted(shape: tuple[int, ...], labels: Tensor | None) -> Tensor | None:
    """Flat positions that have a label, or None where all have.

    Raises:
        ShapeError: not one label for each position.
    """
    if labels is None:
        return None
    if labels.shape != shape:
        raise ShapeError(
            "labels do not fit the logits",
            got=tuple(labels.shape),
            expected=tuple(shape),
            fix="shift them first: labels[i] is the token that logits[i] should predict",
        )
    if labels.is_cpu and labels.numel() and labels.amin().item() > IGNORE:
        return None
    rows = (labels.flatten() != IGNORE).nonzero().squeeze(1)
    return rows if len(rows) < labels.numel() else None


def spread(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    """Values of the counted positions among all positions; 0 elsewhere."""
    if rows is not None:
        values = values.new_zeros(shape.numel()).index_put((rows,), values)
    return values.view(shape)


def per_item(rows: int, num_items: Items | None) -> float:
    """What a mean multiplies its sum by."""
    if num_items is None:
        return 1 / max(rows, 1)
    count = float(num_items)
    if not count > 0:
        raise ConfigError("num_items is not valid", got=count, expected="a number above 0")
    return 1 / count


__all__ = ["token_divergence"]
