"""Direct transcriptions of the losses for teachers that see more than the student."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from _transcribed import VECTORS, Inputs, Pair, Size, normal, two
from torch import Tensor

from limbeck import losses

BLUR = 0.5
ROWS: tuple[Size, ...] = ((128, 64),)


def ccc(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y = x.mean(0), y.mean(0)
    cov = ((x - mean_x) * (y - mean_y)).mean(0)
    below = x.var(0, correction=0) + y.var(0, correction=0) + (mean_x - mean_y) ** 2 + 1e-8
    return 1 - (2 * cov / below).mean()


def transport(x: Tensor, y: Tensor, eps: float) -> Tensor:
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    with torch.no_grad():
        log_a, log_b = -math.log(len(x)), -math.log(len(y))
        f, g = torch.zeros(len(x)), torch.zeros(len(y))
        for _ in range(200):
            g = -eps * torch.logsumexp((f[:, None] - cost) / eps + log_a, 0)
            f = -eps * torch.logsumexp((g - cost) / eps + log_b, 1)
        log_plan = (f[:, None] + g - cost) / eps
        plan = (log_plan + log_a + log_b).exp()
    return (plan * cost).sum() + eps * (plan * log_plan).sum()


def sinkhorn_divergence(x: Tensor, y: Tensor) -> Tensor:
    eps = BLUR**2
    return transport(x, y, eps) - transport(x, x, eps) / 2 - transport(y, y, eps) / 2


def gram(x: Tensor) -> Tensor:
    x = F.normalize(x)
    return x @ x.T


def gram_ot(x: Tensor, y: Tensor) -> Tensor:
    return sinkhorn_divergence(gram(x), gram(y))


def released(x: Tensor, y: Tensor) -> Tensor:
    ours, theirs = gram(x), gram(y)
    chosen = theirs.topk(5, dim=1, largest=False).indices
    a, b = (s.sub(s.min()).gather(1, chosen) for s in (ours, theirs))
    return (a - b).square().sum() / (2 * len(a))


def centroid(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gram(x).mean(0) - gram(y).mean(0))


def flat_cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(x.flatten(), y.flatten(), 0)


def mmd(x: Tensor, y: Tensor) -> Tensor:
    both = torch.cat([x, y])
    apart = (both[:, None] - both[None]).square().sum(2)
    n = len(both)
    width = apart.detach().sum() / (n * n - n)
    kernel = sum(torch.exp(-apart / (width * 2.0 ** (i - 2))) for i in range(5))
    half = len(x)
    return kernel[:half, :half].mean() + kernel[half:, half:].mean() - 2 * kernel[:half, half:].mean()


def numbers(size: Size) -> Inputs:
    return normal(*size, grad=True), normal(*size, seed=1)


def near(size: Size) -> Inputs:
    return normal(*size, scale=0.2, grad=True), normal(*size, seed=1, scale=0.2)


TRANSPORT: dict[str, Pair] = {
    "ccc": Pair(losses.ccc, ccc, numbers, ((256, 2),), goal=1.5),
    "sinkhorn_divergence": Pair(
        lambda x, y: losses.sinkhorn_divergence(x, y, blur=BLUR, iterations=200, tolerance=1e-6),
        sinkhorn_divergence,
        near,
        ROWS,
    ),
    "gram_ot": Pair(lambda x, y: losses.gram_ot(x, y, blur=BLUR), gram_ot, two, ROWS),
    "gram_ot/identity": Pair(
        lambda x, y: losses.gram_ot(
            x, y, anchor="farthest", k=5, layout="gather", shift="global_min", plan="identity"
        ),
        released,
        two,
        ROWS,
        goal=1.2,
    ),
    "centroid": Pair(losses.centroid, centroid, two, VECTORS, goal=1.2),
    "flat_cosine": Pair(losses.flat_cosine, flat_cosine, two, VECTORS, goal=1.2),
    "mmd": Pair(losses.mmd, mmd, two, VECTORS),
}
