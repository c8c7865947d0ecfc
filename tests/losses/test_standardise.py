"""Standardised logits: the formula, its derivative, and rows without a spread."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.losses import dkd, kd, standardise


def draw(n, c, seed=0, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(n, c, generator=generator, dtype=torch.float64)).requires_grad_()


@given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 1000), st.sampled_from([0.1, 1.0, 50.0]))
def test_the_formula(n, c, seed, size):
    logits = draw(n, c, seed, size)
    expected = (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)
    got = standardise(logits)
    assert torch.allclose(got, expected, rtol=1e-12)
    upstream = draw(n, c, seed + 1).detach()
    a, b = (torch.autograd.grad(x, logits, upstream)[0] for x in (got, expected))
    assert torch.allclose(a, b, rtol=1e-7, atol=1e-12 * float(b.abs().max()) + 1e-9 / size)


@pytest.mark.parametrize("shape", [(1, 4), (4, 3), (6, 10)])
def test_the_derivative_is_that_of_the_value(shape):
    torch.autograd.gradcheck(standardise, draw(*shape))


def test_the_size_and_the_offset_of_logits_do_not_matter():
    logits = draw(5, 7)
    assert torch.allclose(standardise(logits), standardise(40 * logits + 300), atol=1e-6)


def test_a_flat_row_gives_zeros_and_a_large_but_finite_slope():
    logits = torch.full((2, 4), 7.0, dtype=torch.float64, requires_grad=True)
    got = standardise(logits)
    assert not got.any()
    (gradient,) = torch.autograd.grad(got[0, 0], logits)
    assert torch.allclose(gradient[0], torch.tensor([0.75, -0.25, -0.25, -0.25], dtype=torch.float64) * 1e7)
    assert not gradient[1].any()


def test_two_classes_say_nothing_and_one_class_is_zero():
    two = draw(5, 2)
    got = standardise(two)
    assert torch.allclose(got.abs(), torch.full_like(got, 0.5**0.5))
    assert torch.autograd.grad(got, two, torch.ones_like(got))[0].abs().max() < 1e-6
    one = draw(3, 1)
    assert not standardise(one).any()
    assert not torch.autograd.grad(standardise(one).sum(), one)[0].any()


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)])
def test_nothing_in_nothing_out(shape):
    logits = torch.zeros(shape, requires_grad=True)
    assert standardise(logits).shape == shape
    assert torch.autograd.grad(standardise(logits).sum(), logits)[0].shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = draw(6, 9, size=50.0).detach().to(dtype).requires_grad_()
    got = standardise(logits)
    assert got.dtype == torch.float32
    assert torch.equal(got, standardise(logits.float()))
    assert torch.autograd.grad(got.square().sum(), logits)[0].dtype == dtype


@pytest.mark.parametrize("size", [1.0, 50.0, 300.0])
def test_losses_on_it_stay_finite_and_differentiable(size):
    student, teacher = draw(6, 5, 1, size).detach().float(), draw(6, 5, 2, size).detach().float()
    student.requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for value in (
        kd(standardise(student), standardise(teacher), temperature=2.0),
        dkd(standardise(student), standardise(teacher), labels, temperature=2.0),
    ):
        assert value.isfinite()
        gradient = torch.autograd.grad(value, student)[0]
        assert gradient.isfinite().all()
        assert gradient.any()
    exact = draw(6, 5, 1, size)
    value = kd(standardise(exact), standardise(draw(6, 5, 2, size)).detach(), temperature=2.0)
    close = kd(standardise(student), standardise(teacher), temperature=2.0)
    assert abs(float(value.detach()) - float(close.detach())) < 1e-6
