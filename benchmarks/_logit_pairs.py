"""Direct transcriptions of the losses on logits, as a careful reader of the papers would write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from _transcribed import LOGITS, Inputs, Pair, Size, normal, whole
from torch import Tensor

from limbeck import losses

Loss = Callable[..., Tensor]


def logits(size: Size) -> Inputs:
    """Student, teacher, labels."""
    return normal(*size, scale=3, grad=True), normal(*size, seed=1, scale=3), whole(size[1], size[0])


def kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s / 4, 1), F.softmax(t / 4, 1), reduction="batchmean") * 16


def dkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q, rows = (s / 4).softmax(1), (t / 4).softmax(1), torch.arange(len(y))
    p_y, q_y = p[rows, y], q[rows, y]
    b_s, b_t = torch.stack([p_y, 1 - p_y], 1), torch.stack([q_y, 1 - q_y], 1)
    target = F.kl_div(b_s.log(), b_t, reduction="batchmean")
    hidden = F.one_hot(y, s.shape[1]).bool()
    rest_s, rest_t = (x.div(4).masked_fill(hidden, -1000.0) for x in (s, t))
    rest = F.kl_div(F.log_softmax(rest_s, 1), F.softmax(rest_t, 1), reduction="batchmean")
    return 16 * (target + 8 * rest)


def dist(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    def far(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    p, q = (s / 4).softmax(1), (t / 4).softmax(1)
    return 16 * (far(p, q) + far(p.T, q.T))


def columns(p: Tensor, q: Tensor) -> Tensor:
    return 1 - ((p * q).sum(0) / (p.norm(dim=0) * q.norm(dim=0) + 1e-8)).mean()


def cosine_similarity_kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return 2 * 16 * columns((s / 4).softmax(1), (t / 4).softmax(1))


def cswt_temperatures(s: Tensor, t: Tensor) -> Tensor:
    p, q = s.softmax(1), t.softmax(1)
    cos = (p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1) + 1e-8)
    return 2 + 4 * (cos.max() - cos) / (cos.max() - cos.min())


def cswt(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    temperature = cswt_temperatures(s.detach(), t)
    p, q = (s / temperature[:, None]).softmax(1), (t / temperature[:, None]).softmax(1)
    return 2 * temperature.mean() ** 2 * columns(p, q)


def label_smoothing(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    log_p = F.log_softmax(s, 1)
    return 0.9 * F.nll_loss(log_p, y) - 0.1 * log_p.mean(1).mean()


def nkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    column = y[:, None]
    p_t = t.softmax(1).gather(1, column)
    target = -(p_t * F.log_softmax(s, 1).gather(1, column)).mean()
    kept = ~F.one_hot(y, s.shape[1]).bool()
    rest_s, rest_t = (x[kept].view(len(y), -1) / 3 for x in (s, t))
    return target - 3.5 * 9 * (rest_t.softmax(1) * F.log_softmax(rest_s, 1)).sum(1).mean()


def wsld(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        hard_s, hard_t = (F.cross_entropy(x, y, reduction="none") for x in (s, t))
        weight = 1 - torch.exp(-hard_s / (hard_t + 1e-7))
    return -16 * (weight * ((t / 4).softmax(1) * F.log_softmax(s / 4, 1)).sum(1)).mean()


def wttm(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    power = t.softmax(1) ** 0.2
    mass = power.sum(1)
    rows = F.kl_div(F.log_softmax(s, 1), power / mass[:, None], reduction="none").sum(1)
    return (mass * rows).mean()


def ttm(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    power = t.softmax(1) ** 0.1
    return F.kl_div(F.log_softmax(s, 1), power / power.sum(1, keepdim=True), reduction="batchmean")


def rld(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    rows = torch.arange(len(y))
    p, q = s.softmax(1)[rows, y], t.softmax(1).amax(1)
    b_s, b_t = torch.stack([p, 1 - p], 1), torch.stack([q, 1 - q], 1)
    first = F.kl_div(b_s.log(), b_t, reduction="batchmean")
    hidden = t >= t[rows, y][:, None]
    lower_s, lower_t = (x.div(4).masked_fill(hidden, -1e9) for x in (s, t))
    second = F.kl_div(F.log_softmax(lower_s, 1), F.softmax(lower_t, 1), reduction="batchmean")
    return first + 8 * 16 * second


def sample_ckd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(t, dim=1) @ F.normalize(s, dim=1).T, torch.arange(len(s)))


def standardised(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    s, t = ((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-7) for x in (s, t))
    return F.kl_div(F.log_softmax(s / 2, 1), F.softmax(t / 2, 1), reduction="batchmean") * 4


def mlkd_batch(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = (s / 4).softmax(1), (t / 4).softmax(1)
    return (q @ q.T - p @ p.T).square().sum() / len(s)


def mlkd_class(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = (s / 4).softmax(1), (t / 4).softmax(1)
    return (q.T @ q - p.T @ p).square().sum() / s.shape[1]


def low_confidence(t: Tensor) -> tuple[Tensor, Tensor]:
    p = t.softmax(1)
    sure, mass = p.max(1).values, p.sum(0)
    return sure.le(sure.quantile(0.5)), mass.le(mass.quantile(0.5))


def sdd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    right = t.argmax(2) == y
    weight = 1 + (right != right[:1]).float()
    rows = F.kl_div(F.log_softmax(s / 4, 2), F.softmax(t / 4, 2), reduction="none").sum(2) * 16
    return (weight * rows).mean()


def regional(size: Size) -> Inputs:
    """A quarter of the rows, each seen in four regions."""
    n, c = size
    return normal(4, n // 4, c, scale=3, grad=True), normal(4, n // 4, c, seed=1, scale=3), whole(c, n // 4)


def ctkd(s: Tensor, t: Tensor, heat: Tensor) -> Tensor:
    p, q = F.log_softmax(s / heat, 1), F.softmax(t / heat, 1)
    return F.kl_div(p, q, reduction="batchmean") * heat * heat


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return -upstream


def learned_temperature(g: Tensor) -> Tensor:
    return 1 + 20 * torch.sigmoid(Reversed.apply(g))


def hot(size: Size) -> Inputs:
    return *logits(size)[:2], torch.tensor(15.6, requires_grad=True)


def tf_kd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    virtual = torch.full_like(s, 0.01 / (s.shape[1] - 1)).scatter_(1, y[:, None], 0.99)
    return F.kl_div(F.log_softmax(s, 1), (virtual / 20).softmax(1), reduction="batchmean")


def contrast(a: Tensor, b: Tensor, groups: Tensor | None) -> Tensor:
    m = F.normalize(b, dim=1, eps=1e-8) @ F.normalize(a, dim=1, eps=1e-8).T / 0.1
    own = torch.arange(len(m))
    if groups is not None:
        hidden = (groups[:, None] == groups) & (own[:, None] != own)
        m = m.masked_fill(hidden, -torch.inf)
    return (F.cross_entropy(m, own) + F.cross_entropy(m.T, own)) / 2


def bickd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = (s / 4).softmax(1), (t / 4).softmax(1)
    return contrast(p, q, y) + contrast(p.T, q.T, None)


def bickd_sample(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return contrast((s / 4).softmax(1), (t / 4).softmax(1), y)


def broadcast(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The class side with every pair of columns written out, as ``cosine_similarity`` invites to."""
    p, q = (s / 4).softmax(1).T, (t / 4).softmax(1).T
    m, own = F.cosine_similarity(q[:, None], p[None], dim=2) / 0.1, torch.arange(len(p))
    return (F.cross_entropy(m, own) + F.cross_entropy(m.T, own)) / 2


def bickd_class(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return contrast((s / 4).softmax(1).T, (t / 4).softmax(1).T, None)


def comparative(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(s[::2] - s[1::2], t[::2] - t[1::2])


def comparative_kl(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return kd(s[::2] - s[1::2], t[::2] - t[1::2], y)


def comparative_all(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    pairs = [F.mse_loss(s - s.roll(i, 0), t - t.roll(i, 0)) for i in range(1, len(s))]
    return torch.stack(pairs).mean()


def one_ensemble(branches: list[Tensor], scores: Tensor) -> Tensor:
    gate = F.softmax(F.relu(scores), 1)
    return sum(gate[:, i, None] * branch for i, branch in enumerate(branches))  # type: ignore[return-value]


def one(branches: list[Tensor], ensemble: Tensor) -> Tensor:
    q = F.softmax(ensemble / 3, 1) + 1e-7
    parts = [(q * (q.log() - F.log_softmax(branch / 3, 1))).sum() / len(q) for branch in branches]
    return 9 * sum(parts)  # type: ignore[return-value]


def branches(size: Size) -> list[Tensor]:
    return [normal(*size, seed=i, scale=3, grad=True) for i in range(3)]


def rows(call: Loss) -> Loss:
    """A loss that needs no labels, called with them."""
    return lambda s, t, y: call(s, t)


def two_logits(ours: Loss, reference: Loss, sizes: tuple[Size, ...] = LOGITS, goal: float = 1.0) -> Pair:
    return Pair(ours, reference, logits, sizes, goal)


LOGIT_LOSSES: dict[str, Pair] = {
    "kd": two_logits(rows(losses.kd), kd),
    "standardise": two_logits(
        lambda s, t, y: losses.kd(losses.standardise(s), losses.standardise(t), temperature=2.0), standardised
    ),
    "dkd": two_logits(losses.dkd, dkd),
    "nkd": two_logits(losses.nkd, nkd),
    "dist": two_logits(rows(losses.dist), dist),
    "cosine_similarity_kd": two_logits(rows(losses.cosine_similarity_kd), cosine_similarity_kd),
    "cswt": two_logits(rows(losses.cswt), cswt),
    "cswt_temperatures": Pair(
        losses.cswt_temperatures,
        cswt_temperatures,
        lambda size: (logits(size)[0].detach(), logits(size)[1]),
        LOGITS,
    ),
    "bickd": two_logits(losses.bickd, bickd),
    "bickd_sample": two_logits(losses.bickd_sample, bickd_sample),
    "bickd_class": two_logits(losses.bickd_class, bickd_class),
    "bickd_class/broadcast": two_logits(losses.bickd_class, broadcast, ((64, 100), (256, 300)), goal=0.2),
    "comparative_kd": two_logits(rows(losses.comparative_kd), comparative),
    "comparative_kd/kl": two_logits(lambda s, t, y: losses.comparative_kd(s, t, form="kl"), comparative_kl),
    "comparative_kd/all": two_logits(
        lambda s, t, y: losses.comparative_kd(s, t, draws="all"), comparative_all, LOGITS[:2], goal=0.2
    ),
    "label_smoothing": two_logits(lambda s, t, y: losses.label_smoothing(s, y), label_smoothing),
    "tf_kd": two_logits(lambda s, t, y: losses.tf_kd(s, y), tf_kd),
    "wsld": two_logits(losses.wsld, wsld),
    "ttm": two_logits(rows(losses.ttm), ttm),
    "wttm": two_logits(rows(losses.wttm), wttm),
    "rld": two_logits(losses.rld, rld),
    "sample_ckd": two_logits(rows(losses.sample_ckd), sample_ckd),
    "mlkd_batch": two_logits(rows(losses.mlkd_batch), mlkd_batch),
    "mlkd_class": two_logits(rows(losses.mlkd_class), mlkd_class),
    "low_confidence": Pair(
        lambda t: torch.cat(losses.low_confidence(t)).float(),
        lambda t: torch.cat(low_confidence(t)).float(),
        lambda size: (normal(*size, scale=3),),
        LOGITS,
    ),
    "sdd": Pair(lambda s, t, y: losses.sdd(s, t, y, base="kd"), sdd, regional, LOGITS),
    "ctkd": Pair(losses.ctkd, ctkd, hot, LOGITS),
    "learned_temperature": Pair(
        losses.learned_temperature,
        learned_temperature,
        lambda size: (torch.zeros(size, requires_grad=True),),
        ((1,),),
    ),
    "one": Pair(losses.one, one, lambda size: (branches(size), normal(*size, seed=9, scale=3)), LOGITS),
    "one_ensemble": Pair(
        losses.one_ensemble,
        one_ensemble,
        lambda size: (branches(size), normal(size[0], 3, grad=True)),
        LOGITS,
    ),
}
