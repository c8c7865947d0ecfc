"""What every loss promises: gradients, precision, finiteness, empty batches, order."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import (
    bickd,
    bickd_class,
    bickd_sample,
    cosine_similarity_kd,
    cswt,
    ctkd,
    dist,
    dkd,
    kd,
    label_smoothing,
    mlkd_batch,
    mlkd_class,
    nkd,
    rld,
    sample_ckd,
    tf_kd,
    ttm,
    wsld,
    wttm,
)


def smoothed(student, teacher, labels, **options):
    return label_smoothing(student, labels, **options)


def teacher_free(student, teacher, labels, **options):
    return tf_kd(student, labels, **options)


def plain(loss, **defaults):
    return lambda student, teacher, labels, **options: loss(student, teacher, **defaults, **options)


LOSSES = {
    "kd": plain(kd),
    "kd_hot": plain(kd, temperature=20.0),
    "kd_cross_entropy": plain(kd, form="cross_entropy"),
    "kd_mse_logits": plain(kd, form="mse_logits"),
    "kd_mse_probabilities": plain(kd, form="mse_probabilities"),
    "dkd": dkd,
    "dist": plain(dist),
    "dist_clamped": plain(dist, eps_form="clamped"),
    "cosine": plain(cosine_similarity_kd),
    "cswt": plain(cswt),
    "label_smoothing": smoothed,
    "nkd": nkd,
    "wsld": wsld,
    "ttm": plain(ttm),
    "wttm": plain(wttm),
    "rld": rld,
    "sample_ckd": plain(sample_ckd),
    "sample_ckd_cold": plain(sample_ckd, temperature=0.02),
    "tf_kd": teacher_free,
    "mlkd_batch": plain(mlkd_batch),
    "mlkd_class": plain(mlkd_class),
    "ctkd": plain(ctkd, temperature=torch.tensor(6.0, dtype=torch.float64)),
    "bickd": bickd,
    "bickd_sample": bickd_sample,
    "bickd_class": bickd_class,
    "bickd_orthogonal": partial(bickd, form="orthogonal"),
    "bickd_dot": partial(bickd, similarity="dot"),
    "bickd_present": partial(bickd, classes="present"),
}
BY_ROW = {name: LOSSES[name] for name in ("kd", "kd_hot", "kd_cross_entropy", "kd_mse_logits", "dkd")}
BY_ROW["label_smoothing"] = smoothed
BY_ROW |= {name: LOSSES[name] for name in ("nkd", "wsld", "ttm", "wttm", "rld", "tf_kd")}
WITH_LABELS = ("dkd", "label_smoothing", "nkd", "wsld", "rld", "tf_kd")
DETACHED = ("cswt", "wsld")
"""Losses with a weight or temperature that no gradient passes: compared with autograd elsewhere."""
each = pytest.mark.parametrize("name", LOSSES)
each_by_row = pytest.mark.parametrize("name", BY_ROW)
sizes = given(st.integers(1, 7), st.integers(2, 9), st.integers(0, 1000))


def draw(n, c, seed=0, size=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, c, generator=generator, dtype=torch.float64) * size for _ in range(2))
    labels = torch.randint(c, (n,), generator=generator)
    return student.to(dtype).requires_grad_(), teacher.to(dtype), labels


def differentiate(loss, student):
    return torch.autograd.grad(loss, student)[0]


@each
@pytest.mark.parametrize("shape", [(1, 4), (4, 2), (3, 7), (6, 4)])
def test_gradients_are_those_of_the_value(name, shape):
    student, teacher, labels = draw(*shape, seed=3)
    if name in DETACHED:
        return
    torch.autograd.gradcheck(lambda x: LOSSES[name](x, teacher, labels), student)


@each_by_row
def test_row_gradients_are_those_of_the_values(name):
    if name in DETACHED:
        return
    student, teacher, labels = draw(4, 5)
    torch.autograd.gradcheck(lambda x: BY_ROW[name](x, teacher, labels, reduction="none"), student)


@each_by_row
@sizes
def test_reductions_agree(name, n, c, seed):
    student, teacher, labels = draw(n, c, seed)
    rows, total, mean = (BY_ROW[name](student, teacher, labels, reduction=r) for r in ("none", "sum", "mean"))
    assert rows.shape == (n,)
    assert torch.allclose(rows.sum(), total)
    assert torch.allclose(rows.mean(), mean)


@each
@sizes
def test_the_order_of_rows_does_not_matter(name, n, c, seed):
    student, teacher, labels = draw(n, c, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    a = LOSSES[name](student, teacher, labels)
    b = LOSSES[name](student[order], teacher[order], labels[order])
    assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@each
@sizes
def test_the_names_of_classes_do_not_matter(name, n, c, seed):
    student, teacher, labels = draw(n, c, seed)
    order = torch.randperm(c, generator=torch.Generator().manual_seed(seed))
    renamed = torch.argsort(order)[labels]
    a = LOSSES[name](student, teacher, labels)
    b = LOSSES[name](student[:, order], teacher[:, order], renamed)
    assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@each
@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 1000), st.sampled_from([1.0, 50.0, 300.0]))
def test_extreme_logits_stay_finite(name, n, c, seed, size):
    student, teacher, labels = draw(n, c, seed, size, torch.float32)
    loss = LOSSES[name](student, teacher, labels)
    assert loss.isfinite()
    assert differentiate(loss, student).isfinite().all()


@each
@pytest.mark.parametrize("value", [-300.0, 0.0, 300.0])
def test_flat_and_identical_rows_stay_finite(name, value):
    student = torch.full((5, 4), value, requires_grad=True)
    teacher = torch.full((5, 4), value)
    teacher[0, 0] += 300
    loss = LOSSES[name](student, teacher, torch.zeros(5, dtype=torch.int64))
    assert loss.isfinite()
    assert differentiate(loss, student).isfinite().all()


@each
def test_float32_agrees_with_float64(name):
    for seed in range(10):
        student, teacher, labels = draw(16, 10, seed)
        exact = LOSSES[name](student, teacher, labels)
        small = student.detach().float().requires_grad_()
        rounded = LOSSES[name](small, teacher.float(), labels)
        assert rounded.dtype == torch.float32
        assert exact.dtype == torch.float64
        assert float((exact - rounded).abs().detach()) < 2e-6 * max(1.0, float(exact.detach()))
        gradient = differentiate(exact, student)
        assert (differentiate(rounded, small) - gradient).abs().max() < 1e-5 * gradient.abs().max()


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    student, teacher, labels = draw(6, 5, dtype=dtype)
    loss = LOSSES[name](student, teacher, labels)
    again = LOSSES[name](student.float(), teacher.float(), labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, again)
    gradient = differentiate(loss, student)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, differentiate(again, student))


@each
def test_the_teacher_gets_no_gradient(name):
    student, teacher, labels = draw(4, 5)
    teacher.requires_grad_()
    loss = LOSSES[name](student, teacher, labels)
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None
    assert not LOSSES[name](student.detach(), teacher, labels).requires_grad
    with torch.no_grad():
        assert torch.equal(LOSSES[name](student, teacher, labels), loss.detach())


@each
@pytest.mark.parametrize("shape", [(0, 5), (0, 0)])
def test_no_rows_give_a_connected_zero(name, shape):
    student, teacher, labels = (
        draw(*shape) if shape[1] else (*draw(0, 1)[:2], torch.zeros(0, dtype=torch.int64))
    )
    loss = LOSSES[name](student, teacher, labels)
    assert float(loss.detach()) == 0
    assert differentiate(loss, student).shape == student.shape


@pytest.mark.parametrize("name", WITH_LABELS)
def test_rows_without_label_count_nothing(name):
    student, teacher, labels = draw(6, 5)
    labels[1:4] = -100
    loss = LOSSES[name](student, teacher, labels)
    kept = labels != -100
    assert torch.allclose(loss, LOSSES[name](student[kept], teacher[kept], labels[kept]))
    assert differentiate(loss, student)[1:4].eq(0).all()
    labels[:] = -100
    student = (student.detach() * torch.inf).requires_grad_()
    loss = LOSSES[name](student, teacher, labels)
    assert float(loss.detach()) == 0
    assert differentiate(loss, student).eq(0).all()


@each
def test_a_second_derivative_is_refused_not_wrong(name):
    student, teacher, labels = draw(4, 5)
    (gradient,) = torch.autograd.grad(LOSSES[name](student, teacher, labels), student, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), student)


@each
def test_backward_twice_gives_the_same(name):
    student, teacher, labels = draw(4, 5)
    loss = LOSSES[name](student, teacher, labels) * 3
    first = torch.autograd.grad(loss, student, retain_graph=True)[0]
    assert torch.equal(first, differentiate(loss, student))


@pytest.mark.parametrize(
    "loss", [kd, dist, cosine_similarity_kd, cswt, bickd, ttm, wttm, sample_ckd, mlkd_batch]
)
@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))]
)
def test_wrong_shapes_name_both(loss, a, b):
    with pytest.raises(ShapeError) as error:
        inspect.unwrap(loss)(torch.zeros(a), torch.zeros(b))
    assert str(a) in str(error.value)
    assert str(b) in str(error.value)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1]), torch.tensor([0, 1, 9]), torch.tensor([0, -1, 2])])
@pytest.mark.parametrize("loss", [dkd, label_smoothing, nkd, wsld, rld, tf_kd])
def test_wrong_labels_are_refused(loss, labels):
    networks = (torch.zeros(3, 4),) * (1 if loss in (label_smoothing, tf_kd) else 2)
    with pytest.raises(ShapeError, match="label"):
        inspect.unwrap(loss)(*networks, labels)


def test_wrong_options_are_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(ConfigError, match="temperature is not valid; got 0"):
        kd(x, x, temperature=0.0)
    with pytest.raises(ConfigError, match="temperature"):
        kd(x, x, temperature=float("nan"))
    with pytest.raises(ConfigError, match="'cross_entropy'"):
        inspect.unwrap(kd)(x, x, form="crossentropy")
    with pytest.raises(ConfigError, match="mean, none, sum"):
        inspect.unwrap(kd)(x, x, reduction="avg")
    with pytest.raises(ConfigError, match="smoothing"):
        label_smoothing(x, torch.zeros(2, dtype=torch.int64), smoothing=1.5)
    with pytest.raises(ConfigError, match="confidence"):
        tf_kd(x, torch.zeros(2, dtype=torch.int64), confidence=0.0)
    with pytest.raises(ConfigError, match="exponent"):
        ttm(x, x, exponent=0.0)
    with pytest.raises(ConfigError, match="'added'"):
        inspect.unwrap(dist)(x, x, eps_form="add")
