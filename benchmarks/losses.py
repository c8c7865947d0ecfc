"""Each loss, forward and backward, against a direct transcription of its formula in the same run.

    python benchmarks/losses.py [--quick] [--threads N]

Time is the median over alternating pairs; memory is the peak of all CPU allocations of one forward and backward,
workspaces inside kernels included (``_pairs.peak_memory``). Both sides get the same float32 logits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _pairs import Figure, arguments, compare, compare_memory, finish
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from limbeck import losses

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
SIZES = ((64, 100), (256, 1000))


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


def cswt(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        p, q = s.softmax(1), t.softmax(1)
        cos = (p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1) + 1e-8)
        temperature = 2 + 4 * (cos.max() - cos) / (cos.max() - cos.min())
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


def sdd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    s, t = (x.view(4, -1, x.shape[1]) for x in (s, t))
    right = t.argmax(2) == y[: s.shape[1]]
    weight = 1 + (right != right[:1]).float()
    rows = F.kl_div(F.log_softmax(s / 4, 2), F.softmax(t / 4, 2), reduction="none").sum(2) * 16
    return (weight * rows).mean()


HEAT = torch.tensor(15.6, requires_grad=True)


def ctkd(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    p, q = F.log_softmax(s / HEAT, 1), F.softmax(t / HEAT, 1)
    return F.kl_div(p, q, reduction="batchmean") * HEAT * HEAT


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


def bickd_class(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return contrast((s / 4).softmax(1).T, (t / 4).softmax(1).T, None)


def comparative(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(s[::2] - s[1::2], t[::2] - t[1::2])


def comparative_kl(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return kd(s[::2] - s[1::2], t[::2] - t[1::2], y)


def comparative_all(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    pairs = [F.mse_loss(s - s.roll(i, 0), t - t.roll(i, 0)) for i in range(1, len(s))]
    return torch.stack(pairs).mean()


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "kd": (lambda s, t, y: losses.kd(s, t), kd),
    "kd_standardised": (
        lambda s, t, y: losses.kd(losses.standardise(s), losses.standardise(t), temperature=2.0),
        standardised,
    ),
    "dkd": (losses.dkd, dkd),
    "dist": (lambda s, t, y: losses.dist(s, t), dist),
    "cosine_similarity_kd": (lambda s, t, y: losses.cosine_similarity_kd(s, t), cosine_similarity_kd),
    "cswt": (lambda s, t, y: losses.cswt(s, t), cswt),
    "comparative_kd": (lambda s, t, y: losses.comparative_kd(s, t), comparative),
    "comparative_kd_kl": (lambda s, t, y: losses.comparative_kd(s, t, form="kl"), comparative_kl),
    "comparative_kd_all": (lambda s, t, y: losses.comparative_kd(s, t, draws="all"), comparative_all),
    "label_smoothing": (lambda s, t, y: losses.label_smoothing(s, y), label_smoothing),
    "nkd": (losses.nkd, nkd),
    "wsld": (losses.wsld, wsld),
    "ttm": (lambda s, t, y: losses.ttm(s, t), ttm),
    "wttm": (lambda s, t, y: losses.wttm(s, t), wttm),
    "rld": (losses.rld, rld),
    "sample_ckd": (lambda s, t, y: losses.sample_ckd(s, t), sample_ckd),
    "mlkd_batch": (lambda s, t, y: losses.mlkd_batch(s, t), mlkd_batch),
    "mlkd_class": (lambda s, t, y: losses.mlkd_class(s, t), mlkd_class),
    "sdd": (
        lambda s, t, y: losses.sdd(
            s.view(4, -1, s.shape[1]), t.view(4, -1, t.shape[1]), y[: len(y) // 4], base="kd"
        ),
        sdd,
    ),
    "ctkd": (lambda s, t, y: losses.ctkd(s, t, HEAT), ctkd),
    "tf_kd": (lambda s, t, y: losses.tf_kd(s, y), tf_kd),
    "bickd": (losses.bickd, bickd),
    "bickd_sample": (losses.bickd_sample, bickd_sample),
    "bickd_class": (losses.bickd_class, bickd_class),
}


LEARNED = {"ctkd": (HEAT,)}
"""What a loss differentiates beside the student's logits."""


def step(
    loss: Loss, s: Tensor, t: Tensor, y: Tensor, learned: tuple[Tensor, ...] = ()
) -> Callable[[], Tensor]:
    """Forward and backward; returns the gradient."""

    def call() -> Tensor:
        return torch.autograd.grad(loss(s, t, y), (s, *learned))[0]

    return call


def main() -> None:
    pairs = 31 if arguments(__doc__).quick else 151
    figures: list[Figure] = []
    for n, c in SIZES:
        generator = torch.Generator().manual_seed(0)
        s, t = (3 * torch.randn(n, c, generator=generator) for _ in range(2))
        s.requires_grad_()
        y = torch.randint(c, (n,), generator=generator)
        for name, (ours, reference) in PAIRS.items():
            a, b = (step(loss, s, t, y, LEARNED.get(name, ())) for loss in (ours, reference))
            torch.testing.assert_close(ours(s, t, y), reference(s, t, y), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(a(), b(), rtol=1e-3, atol=1e-3 * float(b().abs().max()))
            figures.append(compare(f"losses/{name}/{n}x{c}/time", a, b, pairs=pairs))
            figures.append(compare_memory(f"losses/{name}/{n}x{c}/memory", a, b))
    finish(figures)


if __name__ == "__main__":
    main()
