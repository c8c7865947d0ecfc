"""Direct transcriptions of the losses on features, as the reference implementations write them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from _transcribed import MAPS, VECTORS, Inputs, Pair, Size, normal, two
from torch import Tensor

from limbeck import losses


def attention(x: Tensor) -> Tensor:
    return F.normalize(x.pow(2).mean(1).flatten(1))


def at(s: Tensor, t: Tensor) -> Tensor:
    return (attention(s) - attention(t)).pow(2).mean()


def sp(s: Tensor, t: Tensor) -> Tensor:
    s, t = s.flatten(1), t.flatten(1)
    return (F.normalize(t @ t.T) - F.normalize(s @ s.T)).pow(2).sum() / len(s) ** 2


def cka(s: Tensor, t: Tensor) -> Tensor:
    s, t = (x.flatten(1) - x.flatten(1).mean(0) for x in (s, t))
    return 1 - F.cosine_similarity((s @ s.T).flatten(), (t @ t.T).flatten(), dim=0)


def correlation(x: Tensor) -> Tensor:
    x = F.normalize(x.flatten(1), dim=-1)
    similar, total = x @ x.T, torch.zeros(len(x), len(x))
    for p in range(3):
        total = total + math.exp(-2 * 0.4) * (2 * 0.4) ** p / math.factorial(p) * similar.pow(p)
    return total


def cc(s: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(correlation(s), correlation(t))


def cc_neighbours(s: Tensor, t: Tensor) -> Tensor:
    delta = (s - t).abs()
    return (delta[:-1] * delta[1:]).sum(1).mean()


def neighbours(x: Tensor) -> Tensor:
    x = x.flatten(1)
    x = x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-7)
    similar = (x @ x.T + 1) / 2
    return similar / similar.sum(1, keepdim=True)


def pkt(s: Tensor, t: Tensor) -> Tensor:
    p, q = neighbours(s), neighbours(t)
    return (q * torch.log((q + 1e-7) / (p + 1e-7))).mean()


def pairwise(x: Tensor) -> Tensor:
    squares, product = x.pow(2).sum(1), x @ x.T
    d = (squares[:, None] + squares - 2 * product).clamp(min=1e-12).sqrt().clone()
    d[range(len(x)), range(len(x))] = 0
    return d


def distances(x: Tensor) -> Tensor:
    d = pairwise(x)
    return d / d[d > 0].mean()


def rkd_distance(s: Tensor, t: Tensor) -> Tensor:
    return F.smooth_l1_loss(distances(s.flatten(1)), distances(t.flatten(1)))


def angles(x: Tensor) -> Tensor:
    u = F.normalize(x[None] - x[:, None], dim=2)
    return torch.bmm(u, u.transpose(1, 2)).view(-1)


def rkd_angle(s: Tensor, t: Tensor) -> Tensor:
    return F.smooth_l1_loss(angles(s.flatten(1)), angles(t.flatten(1)))


def darkrank(s: Tensor, t: Tensor) -> Tensor:
    score_s, score_t = (-3 * pairwise(x.flatten(1)).pow(3) for x in (s, t))
    order = score_t.sort(dim=1, descending=True)[1][:, 1:5]
    ordered = score_s.gather(1, order)
    tails = torch.stack([ordered[:, i:].logsumexp(1) for i in range(order.shape[1])], 1)
    return -(ordered - tails).sum(1).mean()


def near(size: Size) -> Inputs:
    """Two embeddings of about length 1."""
    return normal(*size, scale=0.1, grad=True), normal(*size, seed=1, scale=0.1)


def channels(x: Tensor) -> Tensor:
    return F.normalize(x.flatten(2), dim=2)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(1) * b.unsqueeze(2)).sum(-1).pow(2)


def nst(s: Tensor, t: Tensor) -> Tensor:
    s, t = channels(s), channels(t)
    return kernel(t, t).mean() + kernel(s, s).mean() - 2 * kernel(s, t).mean()


def nst_by_products(s: Tensor, t: Tensor) -> Tensor:
    s, t = channels(s), channels(t)
    return (t @ t.mT).pow(2).mean() + (s @ s.mT).pow(2).mean() - 2 * (s @ t.mT).pow(2).mean()


def fsp(s: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> Tensor:
    flows = [(a.flatten(2).unsqueeze(1) * b.flatten(2).unsqueeze(2)).mean(-1) for a, b in (s, t)]
    return (flows[0] - flows[1]).pow(2).mean()


def fsp_by_products(s: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> Tensor:
    flows = [a.flatten(2) @ b.flatten(2).mT / a[0, 0].numel() for a, b in (s, t)]
    return F.mse_loss(*flows)


def stages(size: Size) -> Inputs:
    """Maps of two stages of both networks."""
    maps = [normal(*size, seed=seed, grad=seed < 2) for seed in range(4)]
    return (maps[0], maps[1]), (maps[2], maps[3])


def ft(s: Tensor, t: Tensor) -> Tensor:
    return F.l1_loss(F.normalize(s.flatten(1)), F.normalize(t.flatten(1)))


def vid(s: Tensor, t: Tensor, variance: Tensor) -> Tensor:
    v = variance.view(1, -1, 1, 1)
    return (0.5 * ((s - t) ** 2 / v + torch.log(v))).mean()


def with_variance(size: Size) -> Inputs:
    return *two(size), (normal(size[1], seed=2).abs() + 1).requires_grad_()


def ab(s: Tensor, t: Tensor) -> Tensor:
    low = (s + 1) ** 2 * ((s > -1) & (t <= 0)).float()
    high = (s - 1) ** 2 * ((s <= 1) & (t > 0)).float()
    return (low + high).sum() / len(s)


def ofd(s: Tensor, t: Tensor, margin: Tensor) -> Tensor:
    t = torch.max(t, margin.view(1, -1, 1, 1))
    return (F.mse_loss(s, t, reduction="none") * ((s > t) | (t > 0)).float()).sum() / len(s)


def with_margin(size: Size) -> Inputs:
    return *two(size), -normal(size[1], seed=2).abs()


def ofd_margin(weight: Tensor, bias: Tensor) -> Tensor:
    margin = []
    for s, m in zip(weight.abs().tolist(), bias.tolist(), strict=True):
        below = (1 + math.erf(-m / s / math.sqrt(2))) / 2
        density = math.exp(-((m / s) ** 2) / 2) / math.sqrt(2 * math.pi)
        margin.append(m - s * density / below if below > 0.001 else -3 * s)
    return torch.tensor(margin)


def hcl(s: Tensor, t: Tensor) -> Tensor:
    value, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for size in (4, 2, 1):
        if size >= s.shape[2]:
            continue
        weight /= 2
        value = value + weight * F.mse_loss(F.adaptive_avg_pool2d(s, size), F.adaptive_avg_pool2d(t, size))
        total += weight
    return value / total


def regions(x: Tensor) -> Tensor:
    return torch.cat([F.adaptive_avg_pool2d(x, size).flatten(2) for size in (1, 2)], 2)


def regional_logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([F.linear(cell, weight, bias) for cell in regions(x).unbind(2)])


def classified(size: Size) -> Inputs:
    """A map, and a classifier of 100 classes."""
    weight, bias = normal(100, size[1], seed=2, grad=True), normal(100, seed=3, grad=True)
    return normal(*size, grad=True), weight, bias


def cwd(s: Tensor, t: Tensor) -> Tensor:
    s, t = (x.flatten(2).flatten(0, 1) / 4 for x in (s, t))
    return 16 * F.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean")


BATCH = (*MAPS, *VECTORS)

FEATURES: dict[str, Pair] = {
    "fitnets": Pair(losses.fitnets, F.mse_loss, two, MAPS),
    "at": Pair(losses.at, at, two, MAPS),
    "sp": Pair(losses.sp, sp, two, BATCH),
    "cka": Pair(losses.cka, cka, two, BATCH),
    "cc": Pair(losses.cc, cc, two, BATCH),
    "cc_neighbours": Pair(losses.cc_neighbours, cc_neighbours, two, VECTORS),
    "pkt": Pair(losses.pkt, pkt, two, BATCH),
    "rkd_distance": Pair(losses.rkd_distance, rkd_distance, two, BATCH),
    "rkd_angle": Pair(losses.rkd_angle, rkd_angle, two, BATCH, goal=0.8),
    "darkrank": Pair(losses.darkrank, darkrank, near, VECTORS),
    "cwd": Pair(losses.cwd, cwd, two, MAPS),
    "nst": Pair(losses.nst, nst, two, MAPS, goal=0.2),
    "nst/products": Pair(losses.nst, nst_by_products, two, MAPS),
    "fsp": Pair(losses.fsp, fsp, stages, MAPS, goal=0.2),
    "fsp/products": Pair(losses.fsp, fsp_by_products, stages, MAPS),
    "ft": Pair(losses.ft, ft, two, MAPS),
    "vid": Pair(losses.vid, vid, with_variance, MAPS),
    "ab": Pair(losses.ab, ab, two, MAPS),
    "ofd": Pair(losses.ofd, ofd, with_margin, MAPS),
    "ofd_margin": Pair(
        losses.ofd_margin,
        ofd_margin,
        lambda size: (normal(*size, seed=2).abs() + 0.1, normal(*size)),
        ((256,),),
    ),
    "hcl": Pair(losses.hcl, hcl, two, MAPS),
    "regions": Pair(losses.regions, regions, lambda size: (normal(*size, grad=True),), MAPS),
    "regional_logits": Pair(losses.regional_logits, regional_logits, classified, MAPS),
}
