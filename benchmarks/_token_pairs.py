"""Direct transcriptions of the token losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from _logit_pairs import rows, two_logits
from _transcribed import LOGITS, Inputs, Pair, Size, normal, whole
from torch import Tensor

from limbeck import losses
from limbeck.losses import Head

WIDTH = 64


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(1)


def mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    return torch.logaddexp(log_p + torch.tensor(share).log(), log_q + torch.tensor(1 - share).log())


def adaptive(log_p: Tensor, log_q: Tensor) -> Tensor:
    p, gap = log_p.exp(), (log_p.exp() - log_q.exp()).abs().detach()
    ordered, order = p.sort(1)
    tail = torch.zeros_like(p).scatter(1, order, (ordered.cumsum(1) <= 0.5).float())
    far, near = (gap * tail).sum(1), (gap * (1 - tail)).sum(1)
    return (near * kl(log_p, log_q) + far * kl(log_q, log_p)) / (near + far)


def jsd(log_p: Tensor, log_q: Tensor) -> Tensor:
    log_m = mixture(log_p, log_q, 0.5)
    return (kl(log_p, log_m) + kl(log_q, log_m)) / 2


def by_rank(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp().sort(1).values - log_q.exp().sort(1).values).abs().sum(1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": kl,
    "reverse_kl": lambda log_p, log_q: kl(log_q, log_p),
    "jsd": jsd,
    "skew_kl": lambda log_p, log_q: kl(log_p, mixture(log_p, log_q, 0.1)),
    "skew_reverse_kl": lambda log_p, log_q: kl(log_q, mixture(log_q, log_p, 0.1)),
    "adaptive_kl": adaptive,
    "total_variation": lambda log_p, log_q: (log_p.exp() - log_q.exp()).abs().sum(1) / 2,
    "uld": by_rank,
}


def dense(name: str, s: Tensor, t: Tensor) -> Tensor:
    return DIVERGENCES[name](F.log_softmax(t, 1), F.log_softmax(s, 1)).mean()


def entries(s: Tensor, ids: Tensor, log_p: Tensor) -> Tensor:
    log_q = F.log_softmax(s, 1).gather(1, ids)
    rest_p, rest_q = (1 - x.exp().sum(1, keepdim=True) for x in (log_p, log_q))
    return kl(torch.cat([log_p, rest_p.log()], 1), torch.cat([log_q, rest_q.log()], 1)).mean()


def hidden(size: Size) -> Inputs:
    """Hidden states and head of the student, then of the teacher, then labels."""
    n, classes = size
    mine = normal(n, WIDTH, grad=True), normal(classes, WIDTH, seed=1, scale=0.2, grad=True)
    theirs = normal(n, 2 * WIDTH, seed=2), normal(classes, 2 * WIDTH, seed=3, scale=0.2)
    return *mine, *theirs, whole(classes, n)


def given(size: Size) -> Inputs:
    teacher = normal(*size, seed=1, scale=3)
    return normal(*size, scale=3, grad=True), *losses.top_k_targets(teacher, min(16, size[1] // 2))


def spaces(h: Tensor, w: Tensor, g: Tensor, v: Tensor, u: Tensor, b: Tensor) -> Tensor:
    own, said, read, back = h @ w.T, g @ v.T, u @ w.detach().T, b @ v.T
    choice = said.argmax(1)
    agreed = (read.argmax(1) == choice).float()
    far = DIVERGENCES["forward_kl"](F.log_softmax(read.detach(), 1), F.log_softmax(own, 1))
    near = DIVERGENCES["forward_kl"](F.log_softmax(said, 1), F.log_softmax(back, 1))
    return (far * agreed).sum() / agreed.sum().clamp(min=1e-3) + F.cross_entropy(read, choice) + near.mean()


def projected(size: Size) -> Inputs:
    """``hidden`` without labels, then the teacher's states in the student's space and the other way round."""
    h, w, g, v, _ = hidden(size)
    there, _ = losses.projector_start(w.detach(), v)
    return h, w, g, v, (g @ there.T).requires_grad_(), normal(size[0], 2 * WIDTH, seed=4, grad=True)


def crossed(h: Tensor, w: Tensor, g: Tensor, v: Tensor, u: Tensor, b: Tensor, y: Tensor) -> Tensor:
    own, said, read, back = h @ w.T, g @ v.T, u @ w.detach().T, b @ v.T
    right = (read.argmax(1) == y).float()
    far = DIVERGENCES["forward_kl"](F.log_softmax(read.detach(), 1), F.log_softmax(own, 1))
    near = DIVERGENCES["forward_kl"](F.log_softmax(said, 1), F.log_softmax(back, 1))
    return (far * right).mean() + F.cross_entropy(read, y) + near.mean()


def reindexed(s: Tensor, t: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    target = F.one_hot(y, s.shape[1]) * 100.0 - (1 - F.one_hot(y, s.shape[1])) * 1e5
    target[rows] = torch.where(columns < 0, -1e5, t[:, columns.clamp(min=0)])
    return kl(F.log_softmax(target, 1), F.log_softmax(s, 1).clamp(min=-1e4)).mean()


def half(size: Size) -> Inputs:
    """The student's logits, the teacher's of half of the rows over half of the columns, labels, rows, columns."""
    n, classes = size
    columns = torch.arange(classes).where(torch.arange(classes) < classes // 2, -1)
    teacher = normal(n // 2, classes // 2, seed=1, scale=3)
    return normal(*size, scale=3, grad=True), teacher, whole(classes, n), torch.arange(n // 2), columns


def rows_of_two(size: Size) -> Inputs:
    return normal(*size, scale=3, grad=True), normal(*size, seed=1, scale=3)


def grouped(s: Tensor, t: Tensor, y: Tensor, g: Tensor) -> Tensor:
    """Two tokens to a group."""
    sides = []
    for logits in (s, t):
        p = F.softmax(logits, 1)
        first = p.gather(1, y[:, None])[0::2].clamp(min=1e-8)
        sides.append((p[1::2] * first).sort(1, descending=True).values)
    return (sides[0] - sides[1]).abs().sum(1).mean()


def two_divergences(name: str) -> Pair:
    ours = rows(lambda s, t: losses.token_divergence(s, t, divergence=name))
    return two_logits(ours, lambda s, t, y: dense(name, s, t))


def chunked(name: str) -> Pair:
    return Pair(
        lambda h, w, g, v, y: losses.chunked_divergence(h, Head(w), g, Head(v), divergence=name),
        lambda h, w, g, v, y: dense(name, h @ w.T, g @ v.T),
        hidden,
        LOGITS[1:],
    )


TOKENS: dict[str, Pair] = {
    **{f"token_divergence/{name}": two_divergences(name) for name in DIVERGENCES},
    **{f"chunked_divergence/{name}": chunked(name) for name in ("forward_kl", "jsd", "adaptive_kl")},
    "chunked_cross_entropy": Pair(
        lambda h, w, g, v, y: losses.chunked_cross_entropy(h, Head(w), y),
        lambda h, w, g, v, y: F.cross_entropy(h @ w.T, y),
        hidden,
        LOGITS[1:],
    ),
    "dual_space": Pair(
        lambda h, w, g, v, u, b: sum(losses.dual_space(h, Head(w), g, Head(v), u, b)[:3], h.new_zeros(())),
        spaces,
        projected,
        LOGITS[1:],
    ),
    "cross_space": Pair(
        lambda h, w, g, v, u, b, y: sum(
            losses.cross_space(h, Head(w), g, Head(v), u, b, y, y)[:3], h.new_zeros(())
        ),
        crossed,
        lambda size: (*projected(size), whole(size[1], size[0])),
        LOGITS[1:],
    ),
    "gold": Pair(
        lambda s, t, y, g: losses.gold(s, t, (y, y), (g, g)),
        grouped,
        lambda size: (*rows_of_two(size), whole(size[1], size[0]), torch.arange(size[0]) // 2),
        LOGITS,
    ),
    "mined": Pair(losses.mined, reindexed, half, LOGITS),
    "sparse_divergence": Pair(losses.sparse_divergence, entries, given, LOGITS),
    "chunked_sparse_divergence": Pair(
        lambda h, w, ids, p: losses.chunked_sparse_divergence(h, Head(w), ids, p),
        lambda h, w, ids, p: entries(h @ w.T, ids, p),
        lambda size: (*hidden(size)[:2], *given(size)[1:]),
        LOGITS[1:],
    ),
}
"""Every token loss that is differentiated."""
