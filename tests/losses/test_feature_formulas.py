"""Each loss on features against an independent transcription of its formula, with autograd's gradient."""

from __future__ import annotations

import importlib
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from limbeck import losses
from limbeck.losses import at, cc, cc_neighbours, fitnets, fsp, ft, nst, pkt, rkd_angle, rkd_distance, sp, vid

seeds = pytest.mark.parametrize("seed", range(4))


def draw(seed, student, teacher):
    generator = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (student, teacher))
    return s.requires_grad_(), t


def same(got, expected, student):
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-13)
    a, b = (torch.autograd.grad(x, student, retain_graph=True)[0] for x in (got, expected))
    assert torch.allclose(a, b, rtol=1e-7, atol=1e-12)


@seeds
def test_fitnets(seed):
    student, teacher = draw(seed, (3, 4, 5, 5), (3, 4, 5, 5))
    same(fitnets(student, teacher), ((student - teacher) ** 2).sum() / (3 * 4 * 5 * 5), student)


@seeds
@pytest.mark.parametrize("power", [2.0, 4.0])
@pytest.mark.parametrize("size", [(6, 6), (6, 3), (3, 6)])
def test_at(seed, power, size):
    student, teacher = draw(seed, (3, 4, size[0], size[0]), (3, 5, size[1], size[1]))
    s, t = (F.avg_pool2d(x, x.shape[2] // min(size)) for x in (student, teacher))
    distances = []
    for a, b in zip(s, t, strict=True):
        a, b = (x.pow(power).sum(0).flatten() for x in (a, b))
        distances.append((a / a.norm() - b / b.norm()).norm())
    paper = torch.stack(distances)
    same(at(student, teacher, power=power, form="norm"), paper.mean(), student)
    same(at(student, teacher, power=power), paper.square().mean() / min(size) ** 2, student)


pooled = pytest.mark.parametrize("size", [(6, 6), (6, 3), (3, 6)])


def smaller(student, teacher):
    """Both maps at the size of the smaller one."""
    size = min(student.shape[2], teacher.shape[2])
    return (F.avg_pool2d(x, x.shape[2] // size) for x in (student, teacher))


@seeds
@pooled
def test_nst(seed, size):
    student, teacher = draw(seed, (3, 4, size[0], size[0]), (3, 5, size[1], size[1]))
    rows, parts = [], []
    for a, b in zip(*smaller(student, teacher), strict=True):
        a, b = ([c.flatten() / c.norm() for c in x] for x in (a, b))
        mean = lambda x, y: torch.stack([(p @ q) ** 2 for p in x for q in y]).mean()
        rows.append(mean(a, a) + mean(b, b) - 2 * mean(a, b))
        parts.append(mean(a, a) - 2 * mean(a, b))
    rows, parts = torch.stack(rows), torch.stack(parts)
    same(nst(student, teacher), rows.mean(), student)
    same(nst(student, teacher, constant=False, reduction="sum"), parts.sum(), student)
    assert torch.allclose(nst(student, teacher, reduction="none"), rows)


@seeds
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2)])
def test_vid(seed, shape):
    student, teacher = draw(seed, shape, shape)
    variance = torch.linspace(0.3, 3, 4, dtype=torch.float64).requires_grad_()
    normal = torch.distributions.Normal(student, variance.view(4, *[1] * (len(shape) - 2)).sqrt())
    expected = -normal.log_prob(teacher).mean() - math.log(2 * math.pi) / 2
    same(vid(student, teacher, variance), expected, student)
    same(vid(student, teacher, variance), expected, variance)


@seeds
@pooled
def test_fsp(seed, size):
    student, teacher = draw(seed, (3, 4, size[0], size[0]), (3, 4, 6, 6))
    deeper, other = draw(seed + 9, (3, 2, size[1], size[1]), (3, 2, 3, 3))

    def flow(a, b):
        return torch.einsum("nchw,ndhw->ncd", a, b) / a.shape[2] ** 2

    difference = flow(*smaller(student, deeper)) - flow(*smaller(teacher, other))
    value = fsp((student, deeper), (teacher, other))
    same(value, difference.square().mean(), student)
    same(value, difference.square().mean(), deeper)


@seeds
@pooled
def test_ft(seed, size):
    student, teacher = draw(seed, (3, 4, size[0], size[0]), (3, 4, size[1], size[1]))
    length = 4 * min(size) ** 2
    s, t = (torch.stack([a.flatten() / a.norm() for a in x]) for x in smaller(student, teacher))
    same(ft(student, teacher), (s - t).abs().sum() / (3 * length), student)
    same(ft(student, teacher, distance="square"), (s - t).square().sum() / (3 * length), student)
    same(ft(student, teacher, distance="norm"), (s - t).norm(dim=1).mean(), student)


@seeds
@pooled
def test_ft_on_attention_is_another_at(seed, size):
    student, teacher = draw(seed, (3, 4, size[0], size[0]), (3, 5, size[1], size[1]))
    on_attention = partial(ft, student, teacher, form="attention")
    same(on_attention(distance="square"), at(student, teacher), student)
    same(on_attention(distance="norm"), at(student, teacher, form="norm"), student)
    s, t = (x.pow(2).mean(1).flatten(1) for x in smaller(student, teacher))
    expected = (s / s.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)).abs().mean()
    same(on_attention(), expected, student)


def cosine(a, b):
    return a @ b / (a.norm() * b.norm())


def table(x, relation):
    """relation(x_i, x_j) for all i and j."""
    return torch.stack([torch.stack([relation(a, b) for b in x]) for a in x])


def huber(x):
    return torch.where(x.abs() < 1, x.square() / 2, x.abs() - 0.5)


relations = pytest.mark.parametrize("rows", [2, 3, 6])


@seeds
@relations
def test_sp(seed, rows):
    student, teacher = draw(seed, (rows, 4, 3, 3), (rows, 5, 2, 2))
    g, h = (table(x.flatten(1), torch.dot) for x in (student, teacher))
    g, h = (torch.stack([row / row.norm() for row in x]) for x in (g, h))
    same(sp(student, teacher), (g - h).norm() ** 2 / rows**2, student)


@seeds
def test_cka_in_products_of_centred_columns(seed):
    student, teacher = draw(seed, (6, 3), (6, 5))
    a, b = student - student.mean(0), teacher - teacher.mean(0)
    expected = 1 - (b.T @ a).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())
    same(losses.cka(student, teacher), expected, student)


@seeds
@relations
@pytest.mark.parametrize("gamma", [0.4, 1.5])
def test_cc(seed, rows, gamma):
    student, teacher = draw(seed, (rows, 8), (rows, 5))

    def kernel(c):
        e = math.exp(-2 * gamma)
        return e + e * 2 * gamma * c + e * (2 * gamma) ** 2 / 2 * c**2

    difference = kernel(table(student, cosine)) - kernel(table(teacher, cosine))
    same(cc(student, teacher, gamma=gamma), difference.square().mean(), student)
    difference = kernel(table(student, torch.dot)) - kernel(table(teacher, torch.dot))
    found = cc(student, teacher, gamma=gamma, normalise=False, distance="norm")
    same(found, difference.norm() / rows**2, student)


def test_the_series_of_cc_is_that_of_the_gaussian_kernel():
    student, teacher = draw(0, (5, 8), (5, 5))
    a, b = (
        torch.exp(-0.4 * (x[:, None] - x).square().sum(2))
        for x in (F.normalize(student), F.normalize(teacher))
    )
    assert torch.allclose(cc(student, teacher, order=20), (a - b).square().mean())


@seeds
@relations
def test_cc_neighbours(seed, rows):
    student, teacher = draw(seed, (rows, 8), (rows, 8))
    teacher.requires_grad_()
    d = (student - teacher).abs()
    expected = sum(d[i] @ d[i + 1] for i in range(rows - 1)) / (rows - 1)
    same(cc_neighbours(student, teacher), expected, student)
    same(cc_neighbours(student, teacher), expected, teacher)


def test_cc_neighbours_of_one_sample_are_none():
    student, teacher = (torch.ones(1, 3, requires_grad=True) for _ in range(2))
    value = cc_neighbours(student, teacher)
    assert float(value.detach()) == 0
    assert all(not g.any() for g in torch.autograd.grad(value, [student, teacher]))


@seeds
@relations
@pytest.mark.parametrize("squared", [False, True])
def test_rkd_distance(seed, rows, squared):
    student, teacher = draw(seed, (rows, 8), (rows, 5))
    off = ~torch.eye(rows, dtype=torch.bool)

    def distances(x):
        d = table(x, lambda a, b: (a - b).square().sum())
        d = d if squared else torch.where(off, d, 1.0).sqrt() * off
        return d / d[off].mean()

    expected = huber(distances(student) - distances(teacher)).mean()
    same(rkd_distance(student, teacher, squared=squared), expected, student)


@seeds
@relations
@pytest.mark.parametrize("budget", [1, 150, 2**20])
def test_rkd_angle_in_chunks_of_any_size(seed, rows, budget, monkeypatch):
    monkeypatch.setattr(importlib.import_module("limbeck.losses.rkd"), "BUDGET", budget)
    student, teacher = draw(seed, (rows, 8), (rows, 5))
    total = 0.0
    for i in range(rows):
        for j in range(rows):
            for k in range(rows):
                if i not in (j, k):
                    a, b = (cosine(x[j] - x[i], x[k] - x[i]) for x in (student, teacher))
                    total = total + huber(a - b)
    same(rkd_angle(student, teacher), total / rows**3, student)


@seeds
@relations
@pytest.mark.parametrize("eps", [1e-7, 1e-2])
def test_pkt(seed, rows, eps):
    student, teacher = draw(seed, (rows, 8), (rows, 5))

    def probabilities(x):
        c = table(x, lambda a, b: a @ b / ((a.norm() + eps) * (b.norm() + eps)))
        return ((c + 1) / 2) / ((c + 1) / 2).sum(1, keepdim=True)

    p, q = probabilities(student), probabilities(teacher)
    same(pkt(student, teacher, eps=eps), (q * ((q + eps) / (p + eps)).log()).mean(), student)


@pytest.mark.parametrize("loss", [sp, cc, rkd_angle, ft])
def test_what_has_no_direction_gets_no_gradient_or_the_published_one(loss):
    student, teacher = draw(0, (5, 8), (5, 8))
    if loss is ft:
        student, teacher = (x.detach()[..., None, None] for x in (student, teacher))
        student.requires_grad_()
    student.data[2] = student.data[1] if loss is rkd_angle else 0.0
    values, sizes = [], []
    for degenerate in ("skip", "published"):
        value = loss(student, teacher, degenerate=degenerate)
        values.append(value)
        sizes.append(float(torch.autograd.grad(value, student)[0].abs().max()))
    assert torch.equal(*values)
    assert sizes[0] < 1 < 1e6 < sizes[1]


def test_distances_do_not_lose_digits_to_what_all_samples_share():
    student, teacher = draw(0, (6, 8), (6, 8))
    value = rkd_distance(student, teacher)
    shifted = rkd_distance((student + 300).float(), teacher.float())
    assert abs(float((shifted - value).detach())) < 1e-4 * float(value.detach())
