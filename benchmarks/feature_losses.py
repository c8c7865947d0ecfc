"""Each loss on features, forward and backward, against a direct transcription of its formula in the same run.

    python benchmarks/feature_losses.py [--quick] [--threads N]

Transcriptions are written in tensor operations, with matrix products where the formula is one. Time and memory as in
``losses.py``; both sides get the same float32 features.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _pairs import Figure, arguments, compare, compare_memory, finish
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from limbeck import losses

Loss = Callable[[Tensor, Tensor], Tensor]
MAPS = (((64, 32, 16, 16), (64, 64, 16, 16)), ((64, 256, 8, 8), (64, 256, 8, 8)))
VECTORS = (((64, 64), (64, 256)), ((128, 256), (128, 512)))


def fitnets(s: Tensor, t: Tensor) -> Tensor:
    return ((s - t) ** 2).mean()


def at(s: Tensor, t: Tensor) -> Tensor:
    q_s, q_t = (F.normalize(x.pow(2).mean(1).flatten(1)) for x in (s, t))
    return (q_s - q_t).pow(2).mean()


def nst(s: Tensor, t: Tensor) -> Tensor:
    a, b = (F.normalize(x.flatten(2), dim=2) for x in (s, t))
    own, other, cross = a @ a.mT, b @ b.mT, a @ b.mT
    return own.pow(2).mean() + other.pow(2).mean() - 2 * cross.pow(2).mean()


def vid(s: Tensor, t: Tensor) -> Tensor:
    v = torch.ones(1, s.shape[1], 1, 1)
    return (0.5 * ((s - t) ** 2 / v + torch.log(v))).mean()


def fsp(s: Tensor, t: Tensor) -> Tensor:
    def flow(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("nchw,ndhw->ncd", a, b) / (a.shape[2] * a.shape[3])

    return (flow(s, s) - flow(t, t)).pow(2).mean()


def ft(s: Tensor, t: Tensor) -> Tensor:
    return (F.normalize(s.flatten(1)) - F.normalize(t.flatten(1))).abs().mean()


def sp(s: Tensor, t: Tensor) -> Tensor:
    a, b = (F.normalize(x.flatten(1) @ x.flatten(1).T) for x in (s, t))
    return (a - b).pow(2).sum() / len(s) ** 2


def cc(s: Tensor, t: Tensor) -> Tensor:
    def kernel(x: Tensor) -> Tensor:
        x = F.normalize(x)
        c, e = x @ x.T, math.exp(-0.8)
        return e + e * 0.8 * c + e * 0.8**2 / 2 * c**2

    return (kernel(s) - kernel(t)).pow(2).mean()


def cc_neighbours(s: Tensor, t: Tensor) -> Tensor:
    d = (s - t).abs()
    return (d[:-1] * d[1:]).sum(1).mean()


def rkd_distance(s: Tensor, t: Tensor) -> Tensor:
    def distances(x: Tensor) -> Tensor:
        squares = x.pow(2).sum(1)
        d = (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt()
        d = d * (1 - torch.eye(len(x)))
        return d / d[d > 0].mean()

    return F.smooth_l1_loss(distances(s), distances(t))


def rkd_angle(s: Tensor, t: Tensor) -> Tensor:
    def angles(x: Tensor) -> Tensor:
        u = F.normalize(x[None] - x[:, None], dim=2)
        return u @ u.mT

    return F.smooth_l1_loss(angles(s), angles(t))


def pkt(s: Tensor, t: Tensor) -> Tensor:
    def near(x: Tensor) -> Tensor:
        x = x / (x.norm(dim=1, keepdim=True) + 1e-7)
        c = (x @ x.T + 1) / 2
        return c / c.sum(1, keepdim=True)

    p, q = near(s), near(t)
    return (q * torch.log((q + 1e-7) / (p + 1e-7))).mean()


ON_MAPS: dict[str, tuple[Loss, Loss]] = {
    "fitnets": (losses.fitnets, fitnets),
    "at": (losses.at, at),
    "nst": (losses.nst, nst),
    "vid": (lambda s, t: losses.vid(s, t, torch.ones(s.shape[1])), vid),
    "fsp": (lambda s, t: losses.fsp((s, s), (t, t)), fsp),
    "ft": (losses.ft, ft),
    "sp": (losses.sp, sp),
}
ON_VECTORS: dict[str, tuple[Loss, Loss]] = {
    "cc": (losses.cc, cc),
    "cc_neighbours": (losses.cc_neighbours, cc_neighbours),
    "rkd_distance": (losses.rkd_distance, rkd_distance),
    "rkd_angle": (losses.rkd_angle, rkd_angle),
    "pkt": (losses.pkt, pkt),
}
SAME = ("fitnets", "vid", "fsp", "ft", "cc_neighbours")
"""Losses whose two features have one shape."""


def step(loss: Loss, s: Tensor, t: Tensor) -> Callable[[], Tensor]:
    """Forward and backward; returns the gradient."""

    def call() -> Tensor:
        return torch.autograd.grad(loss(s, t), s)[0]

    return call


def main() -> None:
    pairs = 11 if arguments(__doc__).quick else 61
    figures: list[Figure] = []
    for table, sizes in ((ON_MAPS, MAPS), (ON_VECTORS, VECTORS)):
        for student, teacher in sizes:
            generator = torch.Generator().manual_seed(0)
            s, wide = (torch.randn(size, generator=generator) for size in (student, teacher))
            s.requires_grad_()
            for name, (ours, reference) in table.items():
                t = torch.randn(student, generator=generator) if name in SAME else wide
                a, b = step(ours, s, t), step(reference, s, t)
                torch.testing.assert_close(ours(s, t), reference(s, t), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(a(), b(), rtol=1e-3, atol=1e-3 * float(b().abs().max()))
                place = f"losses/{name}/{'x'.join(map(str, student))}"
                figures.append(compare(f"{place}/time", a, b, pairs=pairs))
                figures.append(compare_memory(f"{place}/memory", a, b))
    finish(figures)


if __name__ == "__main__":
    main()
