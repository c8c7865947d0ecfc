"""Losses that know the label or reshape the teacher, against transcriptions of their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.losses.test_formulas import draw, same, shapes

from limbeck.errors import ShapeError
from limbeck.losses import ctkd, dkd, kd, learned_temperature, nkd, rld, sample_ckd, tf_kd, ttm, wsld, wttm


def divergence(p, q):
    """KL(q || p) of two vectors of probabilities."""
    return (q * (q / p).log()).sum()


@shapes
def test_nkd(n, c, seed, t):
    student, teacher, labels = draw(n, c, seed)
    rows = []
    for s, r, y in zip(student, teacher, labels.tolist(), strict=True):
        target = -r.softmax(0)[y] * s.softmax(0)[y].log()
        others = [k for k in range(c) if k != y]
        rest = -(r[others].div(t).softmax(0) * s[others].div(t).log_softmax(0)).sum()
        rows.append(target + 2.5 * t * t * rest)
    got = nkd(student, teacher, labels, gamma=2.5, temperature=t, reduction="none")
    same(got, torch.stack(rows), student)


@shapes
def test_wsld(n, c, seed, t):
    student, teacher, labels = draw(n, c, seed)
    hard_s, hard_t = (F.cross_entropy(x, labels, reduction="none").detach() for x in (student, teacher))
    weight = 1 - torch.exp(-hard_s / (hard_t + 1e-7))
    soft = -(torch.softmax(teacher / t, 1) * torch.log_softmax(student / t, 1)).sum(1)
    same(wsld(student, teacher, labels, temperature=t, reduction="none"), weight * soft * t * t, student)


def test_wsld_forgets_what_the_student_knows_better():
    student, teacher = torch.tensor([[30.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [9.0, 0.0]])
    known, unknown = wsld(student, teacher, torch.tensor([0, 0]), reduction="none").tolist()
    assert known < 1e-9
    assert unknown == pytest.approx(kd(student, teacher, form="cross_entropy", reduction="none")[1].item())


@shapes
def test_ttm_and_wttm(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    power = torch.softmax(teacher, 1) ** (1 / t)
    mass = power.sum(1)
    q = power / mass[:, None]
    rows = (q * (q.log() - torch.log_softmax(student, 1))).sum(1)
    same(ttm(student, teacher, exponent=1 / t, reduction="none"), rows, student)
    same(wttm(student, teacher, exponent=1 / t, reduction="none"), mass * rows, student)
    same(wttm(student, teacher, exponent=1 / t), (mass * rows).mean(), student)


@shapes
def test_rld(n, c, seed, t):
    student, teacher, labels = draw(n, c, seed)
    rows = []
    for s, r, y in zip(student, teacher, labels.tolist(), strict=True):
        p, q = s.div(1.5).softmax(0)[y], r.div(1.5).softmax(0).max()
        first = divergence(torch.stack([p, 1 - p]), torch.stack([q, 1 - q]))
        lower = [k for k in range(c) if r[k] < r[y]]
        second = divergence(s[lower].div(t).softmax(0), r[lower].div(t).softmax(0))
        rows.append(0.7 * 1.5**2 * first + 3 * t * t * second)
    options = {"alpha": 0.7, "beta": 3.0, "temperature": t, "alpha_temperature": 1.5}
    got = rld(student, teacher, labels, **options, reduction="none")
    assert torch.allclose(got, torch.stack(rows), rtol=1e-6, atol=1e-9)
    a, b = (torch.autograd.grad(x.sum(), student)[0] for x in (got, torch.stack(rows)))
    assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_rld_of_a_right_teacher_is_dkd():
    student, teacher, _ = draw(6, 5, 0)
    labels = teacher.argmax(1)
    assert torch.allclose(rld(student, teacher, labels, alpha_temperature=4.0), dkd(student, teacher, labels))


def test_rld_where_no_class_is_below_the_label():
    student, teacher, labels = draw(6, 5, 0)
    labels = teacher.argmin(1)
    loss = rld(student, teacher, labels, alpha=0.0)
    assert float(loss.detach()) == 0
    assert torch.autograd.grad(loss, student)[0].eq(0).all()


@given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 1000), st.sampled_from([0.02, 0.1, 1.0]))
def test_sample_ckd(n, c, seed, tau):
    student, teacher, _ = draw(n, c, seed)
    m = F.normalize(teacher, dim=1) @ F.normalize(student, dim=1).T / tau
    same(sample_ckd(student, teacher, temperature=tau), F.cross_entropy(m, torch.arange(n)), student)


def test_sample_ckd_in_blocks_is_the_same():
    student, teacher, _ = draw(7, 5, 0)
    same(sample_ckd(student, teacher, chunk_size=3), sample_ckd(student, teacher), student)


def test_sample_ckd_has_the_floor_that_it_says():
    n, tau = 2, 1.0
    best = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(sample_ckd(best, best, temperature=tau)) == pytest.approx(
        math.log(1 + (n - 1) * math.exp(-2))
    )


@given(
    st.integers(1, 7),
    st.integers(2, 9),
    st.integers(0, 1000),
    st.sampled_from([0.5, 20.0]),
    st.sampled_from([0.6, 0.99, 1.0]),
)
def test_tf_kd(n, c, seed, t, confidence):
    student, _, labels = draw(n, c, seed)
    virtual = torch.full((n, c), (1 - confidence) / (c - 1), dtype=torch.float64)
    virtual[torch.arange(n), labels] = confidence
    u = torch.softmax(virtual / t, 1)
    rows = (u * (u.log() - torch.log_softmax(student, 1))).sum(1)
    got = tf_kd(student, labels, temperature=t, confidence=confidence, reduction="none")
    same(got, rows, student)


def test_the_released_virtual_teacher_is_nearly_uniform():
    """What the docstring says: 1.05 percent for the label of 100 classes."""
    logits = torch.zeros(1, 100, requires_grad=True)
    gradient = torch.autograd.grad(tf_kd(logits, torch.tensor([0])), logits)[0]
    assert 0.01 - float(gradient[0, 0]) == pytest.approx(0.0105, abs=5e-5)


def plain_ctkd(student, teacher, temperature):
    p, q = torch.softmax(student / temperature, 1), torch.softmax(teacher / temperature, 1)
    return temperature**2 * (q * (q.log() - p.log())).sum(1).mean()


@shapes
def test_ctkd(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    temperature = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    got, expected = (loss(student, teacher, temperature) for loss in (ctkd, plain_ctkd))
    same(got, expected, student)
    a, b = (torch.autograd.grad(x, temperature)[0] for x in (got, expected))
    assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("difference", [0.1, 0.5])
def test_the_slope_of_a_high_temperature_keeps_its_digits_in_float32(difference):
    """Where autograd keeps none to two."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(64, 100, generator=generator, dtype=torch.float64)
    student = teacher + difference * torch.randn(64, 100, generator=generator, dtype=torch.float64)
    slopes = []
    for loss, dtype in ((ctkd, torch.float64), (ctkd, torch.float32), (plain_ctkd, torch.float32)):
        temperature = torch.tensor(15.6, dtype=dtype, requires_grad=True)
        value = loss(student.to(dtype), teacher.to(dtype), temperature)
        slopes.append(float(torch.autograd.grad(value, temperature)[0]))
    exact, ours, autograd = slopes
    assert ours == pytest.approx(exact, rel=3e-3)
    assert abs(ours - exact) < abs(autograd - exact) / 20


@pytest.mark.parametrize("size", [1.0, 50.0, 300.0])
def test_ctkd_stays_finite(size):
    student, teacher, _ = draw(6, 5, 0)
    student, teacher = (size * student.detach()).float().requires_grad_(), (size * teacher).float()
    temperature = torch.tensor([1.0], requires_grad=True)
    gradients = torch.autograd.grad(ctkd(student, teacher, temperature), (student, temperature))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[1].shape == (1,)


def test_ctkd_asks_for_one_temperature():
    with pytest.raises(ShapeError, match="one number"):
        ctkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2))


@pytest.mark.parametrize("reverse", [-1.0, -0.3, 0.0])
def test_the_learned_temperature(reverse):
    g = torch.tensor([0.7], requires_grad=True)
    got = learned_temperature(g, start=2.0, span=8.0, reverse=reverse)
    assert float(got.detach()) == pytest.approx(2 + 8 / (1 + math.exp(-0.7)))
    (gradient,) = torch.autograd.grad(got, g)
    p = 1 / (1 + math.exp(-0.7))
    assert float(gradient) == pytest.approx(reverse * 8 * p * (1 - p))
