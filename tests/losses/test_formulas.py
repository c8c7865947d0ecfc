"""Each loss against an independent transcription of its formula, with autograd's gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from limbeck.losses import cosine_similarity_kd, cswt, cswt_temperatures, dist, dkd, kd, label_smoothing

shapes = given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 1000), st.sampled_from([1.0, 2.5, 9.0]))


def draw(n, c, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(n, c, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(c, (n,), generator=generator)


def same(got, expected, student):
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-13)
    a, b = (torch.autograd.grad(x.sum(), student, retain_graph=True)[0] for x in (got, expected))
    assert torch.allclose(a, b, rtol=1e-7, atol=1e-12)


@shapes
def test_kd(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    p, q = torch.softmax(student / t, 1), torch.softmax(teacher / t, 1)
    kl = (q * (q.log() - p.log())).sum(1)
    same(kd(student, teacher, temperature=t, reduction="none"), kl * t * t, student)
    same(kd(student, teacher, temperature=t, scale=False), kl.mean(), student)
    cross = -(q * p.log()).sum(1).mean() * t * t
    same(kd(student, teacher, temperature=t, form="cross_entropy"), cross, student)
    squares = F.mse_loss(p, q) * t * t
    same(kd(student, teacher, temperature=t, form="mse_probabilities"), squares, student)
    same(kd(student, teacher, form="mse_logits"), F.mse_loss(student, teacher), student)


@shapes
def test_dkd(n, c, seed, t):
    student, teacher, labels = draw(n, c, seed)
    rows = []
    for s, r, y in zip(student, teacher, labels.tolist(), strict=True):
        p, q = torch.softmax(s / t, 0), torch.softmax(r / t, 0)
        binary = q[y] * (q[y] / p[y]).log() + (1 - q[y]) * ((1 - q[y]) / (1 - p[y])).log()
        others = [k for k in range(c) if k != y]
        p, q = torch.softmax(s[others] / t, 0), torch.softmax(r[others] / t, 0)
        rows.append(t * t * (0.7 * binary + 3 * (q * (q / p).log()).sum()))
    got = dkd(student, teacher, labels, alpha=0.7, beta=3.0, temperature=t, reduction="none")
    assert torch.allclose(got, torch.stack(rows), rtol=1e-6, atol=1e-9)
    a, b = (torch.autograd.grad(x.sum(), student)[0] for x in (got, torch.stack(rows)))
    assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_kd_is_both_parts_of_dkd():
    """KD = TCKD + (1 - p_y) NCKD."""
    student, teacher, labels = draw(6, 5, 0)
    target = dkd(student, teacher, labels, beta=0.0, reduction="none")
    rest = dkd(student, teacher, labels, alpha=0.0, beta=1.0, reduction="none")
    share = 1 - torch.softmax(teacher / 4, 1).gather(1, labels[:, None]).squeeze(1)
    assert torch.allclose(kd(student, teacher, reduction="none"), target + share * rest)


def test_dkd_of_two_classes_has_no_rest():
    student, teacher, labels = draw(6, 2, 0)
    assert dkd(student, teacher, labels, alpha=0.0).abs() < 1e-12
    assert torch.allclose(dkd(student, teacher, labels), kd(student, teacher))


def test_dkd_keeps_float32_where_the_released_code_is_nan():
    student, teacher, labels = draw(6, 10, 1)
    student, teacher = 100 * student.detach(), 100 * teacher
    exact = dkd(student, teacher, labels)
    assert torch.allclose(dkd(student.float(), teacher.float(), labels).double(), exact, rtol=1e-6)


@shapes
def test_dist(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    p, q = torch.softmax(student / t, 1), torch.softmax(teacher / t, 1)

    def far(a, b, clamped):
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        if clamped:
            return 1 - F.cosine_similarity(a, b, eps=1e-8).mean()
        return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    for clamped, form in ((False, "added"), (True, "clamped")):
        expected = 2 * far(p, q, clamped) + 0.5 * far(p.T, q.T, clamped)
        got = dist(student, teacher, beta=2.0, gamma=0.5, temperature=t, eps_form=form)
        if n > 1 and c > 2:
            same(got, expected * t * t, student)
        assert torch.allclose(got, expected * t * t, atol=1e-6)
        assert torch.allclose(
            dist(student, teacher, beta=2.0, gamma=0.5, temperature=t, eps_form=form, scale=False), expected
        )


def test_dist_of_one_row_sees_no_columns():
    student, teacher, _ = draw(1, 5, 0)
    loss = dist(student, teacher, beta=0.0, temperature=3.0)
    assert float(loss.detach()) == pytest.approx(9)
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-9


def column_cosine(p, q):
    return ((p * q).sum(0).abs() / (p.norm(dim=0) * q.norm(dim=0) + 1e-8)).mean()


@shapes
def test_cosine_similarity_kd(n, c, seed, t):
    student, teacher, _ = draw(n, c, seed)
    p, q = torch.softmax(student / t, 1), torch.softmax(teacher / t, 1)
    expected = 2 * t * t * (1 - column_cosine(p, q))
    same(cosine_similarity_kd(student, teacher, temperature=t), expected, student)


@given(st.integers(2, 7), st.integers(2, 9), st.integers(0, 1000))
def test_cswt(n, c, seed):
    student, teacher, _ = draw(n, c, seed)
    a, b = torch.softmax(student, 1).detach(), torch.softmax(teacher, 1)
    cos = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)
    t = 2 + 4 * (cos.max() - cos) / (cos.max() - cos.min())
    assert torch.allclose(cswt_temperatures(student, teacher), t)
    p, q = torch.softmax(student / t[:, None], 1), torch.softmax(teacher / t[:, None], 1)
    same(cswt(student, teacher), 2 * t.mean() ** 2 * (1 - column_cosine(p, q)), student)


def test_cswt_spans_its_range_and_survives_one_row():
    student, teacher, _ = draw(5, 4, 0)
    t = cswt_temperatures(student, teacher, low=1.5, high=8.0)
    assert float(t.min()) == 1.5
    assert float(t.max()) == 8.0
    assert cswt_temperatures(student[:1], teacher[:1]).tolist() == [2.0]
    assert float(cswt(student[:1].detach(), teacher[:1])) == pytest.approx(0, abs=1e-3)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.0, 0.1, 1.0]))
def test_label_smoothing(n, c, seed, smoothing):
    student, _, labels = draw(n, c, seed)
    expected = F.cross_entropy(student, labels, label_smoothing=smoothing, reduction="none")
    same(label_smoothing(student, labels, smoothing=smoothing, reduction="none"), expected, student)
    same(label_smoothing(student, labels, smoothing=smoothing), expected.mean(), student)


def test_high_temperatures_keep_float32s_precision():
    for seed in range(20):
        student, teacher, _ = draw(8, 10, seed)
        student, teacher = student.detach().float(), teacher.float()
        exact = kd(student.double(), teacher.double(), temperature=20.0)
        assert abs(float(kd(student, teacher, temperature=20.0)) - float(exact)) < 1e-6 * max(1, float(exact))
