"""Terms of data-free distillation: transcribed formulas, gradients to the images, edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from limbeck.losses import data_free as terms


def logits(rows: int = 5, classes: int = 4, seed: int = 0, scale: float = 2.0) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [
        (scale * torch.randn(rows, classes, generator=draws, dtype=torch.float64)).requires_grad_()
        for _ in range(2)
    ]


def test_divergence_reaches_both_networks() -> None:
    s, t = logits()
    p, q = t.softmax(1), s.softmax(1)
    rows = (p * (p / q).log()).sum(1)
    torch.testing.assert_close(terms.divergence(s, t), rows.mean())
    mask = (s.argmax(1) == t.argmax(1)).double()
    assert 0 < mask.mean() < 1
    torch.testing.assert_close(terms.divergence(s, t, decision=True), (mask * rows).mean())
    assert torch.autograd.gradcheck(terms.divergence, (s, t))


def test_squares_feel_the_student_only_and_logs_stay_finite() -> None:
    s, t = logits()
    plain = terms.squared(s, t)
    torch.testing.assert_close(plain, ((s - t) ** 2).mean())
    plain.backward()
    assert s.grad is not None
    assert t.grad is None
    torch.testing.assert_close(
        terms.squared(s, t, form="log"), ((s - t) ** 2).mean().log(), rtol=1e-6, atol=1e-6
    )
    norm = (s - t).norm().log()
    torch.testing.assert_close(terms.squared(s, t, form="log_norm"), norm, rtol=1e-6, atol=1e-6)
    for form in ("log", "log_norm"):
        value = terms.squared(s, s.detach().clone(), form=form)
        (gradient,) = torch.autograd.grad(value, s)
        assert bool(torch.isfinite(value))
        assert bool(torch.isfinite(gradient).all())


def test_absolute_and_competition_and_balance() -> None:
    s, t = logits()
    torch.testing.assert_close(terms.absolute(s, t), (s - t).abs().mean())
    p, q = (t / 3).softmax(1), (s / 3).softmax(1)
    m = (p + q) / 2
    js = 0.5 * ((p * (p / m).log()).sum(1) + (q * (q / m).log()).sum(1)).mean()
    torch.testing.assert_close(terms.competition(s, t), 1 - js)
    mean = t.softmax(1).mean(0)
    torch.testing.assert_close(terms.balance(t), (mean * mean.log()).sum())
    torch.testing.assert_close(terms.balance(t, base=10.0), (mean * mean.log10()).sum())
    one_class = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    value = terms.balance(one_class)
    value.backward()
    assert float(value.detach()) == 0
    assert bool(torch.isfinite(one_class.grad).all())


@pytest.mark.parametrize("classes", [10, 100])
def test_a_double_softmax_cannot_come_to_zero(classes: int) -> None:
    sure = torch.zeros(1, classes)
    sure[0, 3] = 1e4
    value = terms.class_loss(sure, torch.tensor([3]), double_softmax=True)
    assert float(value) == pytest.approx(math.log(math.e + classes - 1) - 1, abs=1e-5)
    assert float(terms.class_loss(sure, torch.tensor([3]))) == 0


def test_two_views_against_a_loop() -> None:
    draws = torch.Generator().manual_seed(1)
    a, b = (F.normalize(torch.randn(6, 3, generator=draws, dtype=torch.float64), dim=1) for _ in range(2))
    y = torch.tensor([0, 1, 0, 2, 2, 2])
    rows, labels = torch.cat([a, b]), y.repeat(2)
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        below = sum(float(torch.exp(rows[i] @ rows[j] / 0.07)) for j in others)
        positives = [j for j in others if labels[j] == labels[i]]
        total -= sum(float(rows[i] @ rows[p] / 0.07) - math.log(below) for p in positives) / len(positives)
    assert float(terms.two_view_contrast(a, b, y)) == pytest.approx(total / 12)


def test_two_views_of_one_image_and_of_long_vectors() -> None:
    one = torch.ones(1, 2).div(2**0.5).requires_grad_()
    value = terms.two_view_contrast(one, one.detach(), torch.tensor([0]))
    value.backward()
    assert float(value.detach()) == pytest.approx(0)
    assert bool(torch.isfinite(one.grad).all())
    long = 30 * torch.randn(8, 4)
    assert bool(torch.isfinite(terms.two_view_contrast(long, long, torch.arange(8))))


def test_remembered_images_do_not_drown_the_batch() -> None:
    draws = torch.Generator().manual_seed(2)
    q, k = (F.normalize(torch.randn(9, 4, generator=draws), dim=1).requires_grad_() for _ in range(2))
    rows = F.cross_entropy(q @ k.T / 0.1, torch.arange(9), reduction="none")
    found = terms.instance_contrast(q, k, current=2)
    torch.testing.assert_close(found, rows[:2].mean() + rows[2:].mean())
    found.backward()
    assert q.grad is not None
    assert k.grad is None


def test_image_priors() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    right, down = 6**0.5, (6 * 9) ** 0.5
    diagonal, other = (4 * 16) ** 0.5, (4 * 4) ** 0.5
    assert float(terms.total_variation(x)) == pytest.approx(right + down + diagonal + other)
    assert float(terms.total_variation(x, form="l1")) == pytest.approx(1 + 3 + 4 + 2)
    assert float(terms.image_norm(x)) == pytest.approx(204**0.5)


@pytest.mark.parametrize("name", ["divergence", "squared", "absolute", "competition"])
def test_large_logits_are_finite(name: str) -> None:
    s, t = (x.float().detach().mul(300).requires_grad_() for x in logits())
    value = getattr(terms, name)(s, t)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(s.grad).all())


def test_half_precision_is_widened() -> None:
    s, t = (x.detach().half() for x in logits())
    assert terms.divergence(s, t).dtype == torch.float32
    assert terms.class_loss(t, torch.zeros(5, dtype=torch.int64)).dtype == torch.float32
