"""Each loss on features against an independent transcription of its formula, with autograd's gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from limbeck.losses import at, fitnets

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
