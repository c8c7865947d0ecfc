"""Token divergences from a few entries of the teacher's distribution, as a store or a server gives them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..shapes import Features, Value
from ._common import Reduction, check_reduction, choice, exponentials, positive, reduced, wide
from ._divergences import DIVERGENCES, Divergence, Found, chosen
from .chunked import Head, Rows, _reduced
from .tokens import Items, counted, flat, per_item, spread

Tail = Literal["bucket", "lump", "renormalise", "none"]
TAILS = ("bucket", "lump", "renormalise", "none")


def sparse_divergence(
    student: Features,
    ids: Tensor,
    log_probs: Tensor,
    labels: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    tail: Tail = "bucket",
    temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    scale: bool = False,
    reduction: Reduction = "mean",
    num_items: Items | None = None,
) -> Value | Features:
    r"""``token_divergence`` from K known entries of the teacher.

    =============== ==================================================================================
    ``bucket``      all other entries of both are one more entry with the mass that is left. At
                    :math:`T \ne 1` the teacher's is spread evenly over them before it is tempered
    ``lump``        the same at T = 1. At another the teacher's left mass is tempered as if it were one token's,
                    the student's as what it is: not 0 where both agree
    ``renormalise`` the known entries are all there is of the teacher: :math:`p = \mathrm{softmax}(\log p / T)`
                    over them. Biased for the top K (the student sharpens); right for sampled targets
    ``none``        :math:`\sum_k p_k (\log p_k - \log q_k)` over the known entries; ``forward_kl`` at T = 1 only
    =============== ==================================================================================

    Args:
        student: logits ``(N, V)`` or ``(B, T, V)``.
        ids: token ids ``(N, K)`` or ``(B, T, K)``, distinct within a row; a negative one is no entry.
        log_probs: the teacher's log-probabilities of these at T = 1, same shape.
        labels: already shifted, -100 leaves a position out; None counts every one.
        divergence, temperature, beta, alpha, mu, scale, reduction, num_items: as for ``token_divergence``.
        tail: what is done about the rest of the teacher.

    Returns:
        A scalar, or the shape of ``labels`` with ``reduction="none"``.

    Raises:
        ShapeError: shapes differ, or an id is beyond the vocabulary.
        ConfigError: an option is not valid.

    Source:
        ``lump`` and ``renormalise`` as DistillKit (``symmetric_uniform`` and ``zero``), ``none`` as verl;
        sampled targets arXiv:2503.16870.

    Example:
        >>> teacher = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
        >>> ids, log_probs = top_k_targets(teacher, 2)
        >>> ids, sparse_divergence(torch.zeros(1, 4), ids, log_probs)
        (tensor([[0, 1]]), tensor(0.7142))
    """
    of = _divergence(divergence, tail, temperature, beta, alpha, mu, scale)
    check_reduction(reduction)
    shape = student.shape[:-1]
    _fits(shape, ids, log_probs)
    rows = counted(shape, labels)
    s, i, p = flat(student), flat(ids), flat(log_probs)
    if rows is not None:
        s, i, p = s[rows], i[rows], p[rows]
    value, gradient = _rows(wide(s, p.dtype), i, p.detach(), of, tail)
    up, slope = of.scales
    if reduction == "none":
        return spread(reduced(s, value, gradient, "none", scale=up, slope=slope), rows, shape)
    share = 1.0 if reduction == "sum" else per_item(s.shape[0], num_items)
    return reduced(s, value, gradient, "sum", scale=up * share, slope=slope * share)


def chunked_sparse_divergence(
    student: Features,
    head: Head,
    ids: Tensor,
    log_probs: Tensor,
    labels: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    tail: Tail = "bucket",
    temperature: float = 1.0,
    beta: float = 0.5,
    alpha: float = 0.1,
    mu: float = 0.5,
    scale: bool = False,
    reduction: str = "mean",
    num_items: Items | None = None,
    chunk: int | None = None,
) -> Value:
    """``sparse_divergence`` of what a head says about hidden states, in pieces; see ``chunked_divergence``.

    Raises:
        ShapeError: shapes differ, or an id is beyond the vocabulary.
        ConfigError: an option is not valid.

    Example:
        >>> ids, log_probs = torch.tensor([[2, 0]]), torch.tensor([[0.6, 0.3]]).log()
        >>> chunked_sparse_divergence(torch.ones(1, 2), Head(torch.ones(4, 2)), ids, log_probs)
        tensor(0.4190)
    """
    of = _divergence(divergence, tail, temperature, beta, alpha, mu, scale)
    _fits(student.shape[:-1], ids, log_probs)
    i, p = ids.flatten(0, -2), log_probs.detach().flatten(0, -2)

    def loss(s: Tensor, t: Tensor | None, rows: Rows) -> Found:
        return _rows(s, i[rows], p[rows], of, tail)

    return _reduced(loss, student, head, None, labels, None, reduction, num_items, chunk, of.scales)


def top_k_targets(logits: Features, k: int) -> tuple[Tensor, Tensor]:
    """The k most probable entries.

    Args:
        logits: the teacher's, ``(..., V)``.
        k: how many, at most V are taken.

    Returns:
        Ids and log-probabilities at T = 1, each ``(..., k)``, the most probable first.

    Example:
        >>> top_k_targets(torch.tensor([[0.0, 2.0, 1.0]]), 2)[0]
        tensor([[1, 2]])
    """
    positive(k=k)
    best = torch.log_softmax(wide(logits), -1).topk(min(k, logits.shape[-1]), -1)
    return best.indices, best.values


def sampled_targets(
    logits: Features, draws: int, *, gamma: float = 1.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""An unbiased sparse estimate of the teacher's distribution.

    N tokens are drawn from :math:`r \propto p^\gamma`; a token drawn :math:`n_v` times gets the share
    :math:`\frac{n_v p_v / r_v}{\sum_u n_u p_u / r_u}`, which is :math:`n_v / N` for :math:`\gamma = 1`.
    Its expected value is p for :math:`\gamma = 1`; for others the division makes it so only for large N.

    Args:
        logits: the teacher's, ``(..., V)``.
        draws: N. Draws repeat, so that about 12 different tokens need some 50.
        gamma: of the proposal, above 0.
        generator: makes the draws repeatable.

    Returns:
        Ids ``(..., N)``, -1 where a token had been drawn before, and log-shares, -inf there. For
        ``sparse_divergence(..., tail="renormalise")``.

    Source:
        Sparse Logit Sampling, arXiv:2503.16870.

    Example:
        >>> ids, shares = sampled_targets(torch.tensor([[9.0, 9.0, -99.0]]), 64)
        >>> sorted(ids[ids >= 0].tolist()), round(float(shares.exp().sum()), 4)
        ([0, 1], 1.0)
    """
    positive(draws=draws, gamma=gamma)
    log = torch.log_softmax(wide(logits), -1).flatten(0, -2)
    proposal = log if gamma == 1 else torch.log_softmax(log * gamma, -1)
    ids = torch.multinomial(proposal.exp(), draws, replacement=True, generator=generator).sort(1).values
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[:, 1:] = ids[:, 1:] == ids[:, :-1]
    # a run of equal ids is one token; its position in the row of runs collects how often it was drawn
    run = (~again).cumsum(1) - 1
    count = torch.zeros_like(log[:, :1].expand(-1, draws)).scatter_add(
        1, run, torch.ones_like(ids, dtype=log.dtype)
    )
    share = count.gather(1, run).log()
    if gamma != 1:
        share = share + (log - proposal).gather(1, ids)
    share = torch.log_softmax(share.masked_fill(again, -math.inf), 1)
    shape = (*logits.shape[:-1], draws)
    return ids.masked_fill(again, -1).view(shape), share.view(shape)


def _divergence(
    name: str, tail: str, temperature: float, beta: float, alpha: float, mu: float, scale: bool
) -> Divergence:
    of = chosen(name, temperature, beta, alpha, mu, scale)
    choice("tail", tail, TAILS)
    if name == "uld":
        raise ConfigError("uld compares whole sorted vocabularies", fix="take another divergence")
    if tail == "none" and (name, temperature) != ("forward_kl", 1.0):
        raise ConfigError(
            "tail='none' is defined for forward_kl at temperature 1",
            got=f"{name}, temperature {temperature}",
            fix="take tail='bucket'",
        )
    return of


def _fits(shape: tuple[int, ...], ids: Tensor, log_probs: Tensor) -> None:
    if ids.shape != log_probs.shape or ids.shape[:-1] != shape:
        raise ShapeError(
            "the teacher's entries do not fit",
            got=f"ids {tuple(ids.shape)}, log_probs {tuple(log_probs.shape)}",
            expected=f"({', '.join(map(str, shape))}, K) for both",
        )


def _rows(student: Tensor, ids: Tensor, log_probs: Tensor, of: Divergence, tail: Tail) -> Found:
    """Value of each row, or what adds up to it, and its gradient, still to be multiplied by ``of.scales``.

    The entries and the rest are a distribution over K + 1 classes.
    """
    classes = student.shape[1]
    low, high = (int(x) for x in torch.aminmax(ids)) if ids.numel() else (-1, -1)
    if high >= classes:
        raise ShapeError("an id is beyond the vocabulary", got=high, expected=f"below {classes}")
    log_t = log_probs.to(student.dtype)
    if tail == "none":
        return _known_only(student, ids, log_t)
    z = student / of.temperature if of.temperature != 1 else student
    if low >= 0 and ids.shape[1] < classes and tail != "renormalise" and z.is_cpu:
        value, gradient = _every(z, ids, log_t, of, tail)
        if math.isfinite(value.sum().item()):
            return value, gradient
    given = ids >= 0
    safe, log_t = ids.clamp(min=0), log_t.masked_fill(~given, -math.inf)
    rest = z.scatter_add(1, safe, torch.zeros_like(log_t).masked_fill_(given, -math.inf))
    lumped = torch.cat([z.gather(1, safe).masked_fill(~given, -math.inf), rest.logsumexp(1, keepdim=True)], 1)
    value, slope = of.compare(torch.log_softmax(lumped, 1), _target(log_t, classes, of.temperature, tail))
    gradient = torch.softmax(rest, 1).nan_to_num_(nan=0.0).mul_(slope[:, -1:])
    return value, gradient.scatter_add_(1, safe, slope[:, :-1].masked_fill(~given, 0.0))


def _known_only(student: Tensor, ids: Tensor, log_t: Tensor) -> Found:
    """The known entries without a rest."""
    given = ids >= 0
    safe, p = ids.clamp(min=0), log_t.masked_fill(~given, -math.inf).exp_()
    log_s = torch.log_softmax(student, 1)
    value = (p * (log_t - log_s.gather(1, safe)).masked_fill(~given, 0.0)).sum(1)
    slope = exponentials(log_s, out=log_s).mul_(p.sum(1, keepdim=True))
    return value, slope.scatter_add_(1, safe, p.neg_())


def _every(z: Tensor, ids: Tensor, log_t: Tensor, of: Divergence, tail: Tail) -> Found:
    """Where no entry is missing: one pass over the vocabulary. Not finite where the rest of either is nothing."""
    rest = z.scatter(1, ids, -math.inf)
    total = rest.amax(1, keepdim=True)
    share = torch.softmax(rest, 1, out=rest)
    total -= share.amax(1, keepdim=True).log_()  # of the rest's exponentials, in logarithms
    log_s = torch.log_softmax(torch.cat([z.gather(1, ids), total], 1), 1)
    left = log_t.exp().sum(1, keepdim=True).neg_().log1p_()
    if of.temperature == 1:
        log_p = torch.cat([log_t, left], 1)
    else:
        parts = math.log(z.shape[1] - ids.shape[1]) if tail == "bucket" else 0.0
        log_t, left = log_t / of.temperature, left.sub_(parts).div_(of.temperature).add_(parts)
        log_p = torch.log_softmax(torch.cat([log_t, left], 1), 1)
    value, slope = DIVERGENCES[of.name](log_s, log_p, of)
    return value, share.mul_(slope[:, -1:]).scatter_(1, ids, slope[:, :-1])


def _target(log_t: Tensor, classes: int, temperature: float, tail: Tail) -> Tensor:
    """The teacher's tempered log-probabilities of its entries and of the rest ``(n, K + 1)``."""
    rest = torch.full_like(log_t[:, :1], -math.inf)
    if tail in ("bucket", "lump"):
        others = classes - log_t.isfinite().sum(1, keepdim=True)
        mass = log_t.exp().sum(1, keepdim=True)
        parts = others.log() if tail == "bucket" else 0.0
        spread_out = (torch.log1p(-mass) - parts) / temperature + parts
        rest = torch.where((mass < 1) & (others > 0), spread_out, rest)
    return torch.log_softmax(torch.cat([log_t / temperature, rest], 1), 1)
