"""What every loss on features promises: gradients, precision, finiteness, empty batches."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import at, cc, cka, fitnets, fsp, ft, nst, pkt, rkd_angle, rkd_distance, sp, vid

MAPS = (5, 4, 6, 6)
OTHER_MAPS = (5, 7, 3, 3)
VECTORS = (5, 8)
OTHER_VECTORS = (5, 3)


def likelihood(student, teacher):
    return vid(student, teacher, torch.linspace(0.5, 2, 4, dtype=student.dtype))


def flow(student, teacher):
    return fsp((student, teacher.detach()), (2 * teacher, teacher))


LOSSES = {
    "fitnets": (fitnets, MAPS, MAPS),
    "at": (at, MAPS, OTHER_MAPS),
    "at_norm": (partial(at, form="norm"), OTHER_MAPS, MAPS),
    "at_cubes": (partial(at, power=3.0, eps=1e-6), MAPS, MAPS),
    "nst": (nst, MAPS, OTHER_MAPS),
    "nst_sum": (partial(nst, constant=False, reduction="sum"), OTHER_MAPS, MAPS),
    "ft": (ft, MAPS, (5, 4, 3, 3)),
    "ft_norm": (partial(ft, distance="norm"), MAPS, MAPS),
    "ft_attention": (partial(ft, form="attention"), OTHER_MAPS, MAPS),
    "vid": (likelihood, MAPS, MAPS),
    "fsp": (flow, MAPS, (5, 4, 3, 3)),
    "sp": (sp, MAPS, OTHER_MAPS),
    "cka": (cka, MAPS, OTHER_MAPS),
    "cc": (cc, VECTORS, OTHER_VECTORS),
    "cc_plain": (partial(cc, normalise=False, order=3), VECTORS, VECTORS),
    "cc_norm": (partial(cc, distance="norm", reduction="sum"), MAPS, VECTORS),
    "rkd_distance": (rkd_distance, VECTORS, OTHER_VECTORS),
    "rkd_squared": (partial(rkd_distance, squared=True), VECTORS, MAPS),
    "rkd_angle": (rkd_angle, VECTORS, OTHER_VECTORS),
    "pkt": (pkt, VECTORS, OTHER_VECTORS),
}
"""name -> the loss, shapes of the student's and the teacher's features."""

RELATIONS = [name for name in LOSSES if name.split("_")[0] in ("sp", "cc", "cka", "rkd", "pkt")]
"""Losses that compare samples with each other, whatever the size of their features."""

each = pytest.mark.parametrize("name", LOSSES)


def draw(name, seed=0, size=1.0, dtype=torch.float64, rows=None):
    loss, *shapes = LOSSES[name]
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(
            (shape[0] if rows is None else rows, *shape[1:]), generator=generator, dtype=torch.float64
        )
        * size
        for shape in shapes
    )
    return loss, student.to(dtype).requires_grad_(), teacher.to(dtype)


def differentiate(value, student):
    return torch.autograd.grad(value, student)[0]


@each
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gradients_are_those_of_the_value(name, rows):
    loss, student, teacher = draw(name, seed=3, rows=rows)
    torch.autograd.gradcheck(lambda x: loss(x, teacher), student)


@each
@pytest.mark.parametrize("size", [1.0, 50.0, 300.0])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_large_features_stay_finite(name, size, rows):
    loss, student, teacher = draw(name, size=size, dtype=torch.float32, rows=rows)
    value = loss(student, teacher)
    assert value.isfinite()
    assert differentiate(value, student).isfinite().all()


@each
@pytest.mark.parametrize("kind", ["zeros", "ones", "one dead", "duplicates", "dead channel"])
def test_degenerate_features_stay_finite_and_their_gradients_small(name, kind):
    loss, student, teacher = draw(name, dtype=torch.float32)
    for x in (student.data, teacher):
        if kind in ("zeros", "ones"):
            x.fill_(kind == "ones")
        elif kind == "one dead":
            x[1] = 0
        elif kind == "duplicates":
            x[1] = x[0]
        else:
            x[:, 1] = 0
    value = loss(student, teacher)
    assert value.isfinite()
    assert differentiate(value, student).abs().max() < 1e3


@each
def test_float32_agrees_with_float64(name):
    for seed in range(5):
        loss, student, teacher = draw(name, seed)
        exact, small = loss(student, teacher), student.detach().float().requires_grad_()
        rounded = loss(small, teacher.float())
        assert (exact.dtype, rounded.dtype) == (torch.float64, torch.float32)
        assert float((exact - rounded).abs().detach()) < 2e-6 * max(1.0, float(exact.detach().abs()))
        gradient = differentiate(exact, student)
        assert (differentiate(rounded, small) - gradient).abs().max() < 1e-5 * gradient.abs().max()


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    loss, student, teacher = draw(name, dtype=dtype)
    value, wide = loss(student, teacher), student.detach().float().requires_grad_()
    again = loss(wide, teacher.float())
    assert value.dtype == torch.float32
    assert torch.equal(value, again)
    gradient = differentiate(value, student)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, differentiate(again, wide).to(dtype))


@each
def test_the_teacher_gets_no_gradient(name):
    loss, student, teacher = draw(name)
    teacher.requires_grad_()
    value = loss(student, teacher)
    assert torch.autograd.grad(value, teacher, allow_unused=True)[0] is None
    assert not loss(student.detach(), teacher).requires_grad
    with torch.no_grad():
        assert torch.equal(loss(student, teacher), value.detach())


@each
def test_no_rows_give_a_connected_zero(name):
    loss, student, teacher = draw(name, rows=0)
    value = loss(student, teacher)
    assert float(value.detach()) == 0
    assert differentiate(value, student).shape == student.shape


@each
def test_backward_twice_gives_the_same(name):
    loss, student, teacher = draw(name)
    value = loss(student, teacher) * 3
    first = torch.autograd.grad(value, student, retain_graph=True)[0]
    assert torch.equal(first, differentiate(value, student))


@each
def test_order_in_memory_does_not_matter(name):
    loss, student, teacher = draw(name)
    if student.dim() == teacher.dim() == 4:
        there = student.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        a, b = loss(student, teacher), loss(there, teacher.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(differentiate(a, student), differentiate(b, there))


@each
def test_wrong_shapes_name_both(name):
    loss = LOSSES[name][0]
    options = loss.keywords if isinstance(loss, partial) else {}
    plain = inspect.unwrap(loss.func if isinstance(loss, partial) else loss)
    wrong = [((3, 4), (2, 4)), ((3,), (3, 5))]
    for a, b in wrong if name in RELATIONS else [*wrong, ((3, 4, 2), (3, 5, 2))]:
        with pytest.raises(ShapeError) as error:
            plain(torch.zeros(a), torch.zeros(b), **options)
        assert str(a) in str(error.value)
        assert str(b) in str(error.value)


@pytest.mark.parametrize("name", RELATIONS)
def test_the_order_of_samples_does_not_matter(name):
    loss, student, teacher = draw(name)
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(student, teacher), loss(student[order], teacher[order]))


@pytest.mark.parametrize("name", RELATIONS)
def test_one_sample_has_no_relations(name):
    loss, student, teacher = draw(name, rows=1)
    value = loss(student, teacher)
    assert value.isfinite()
    if not name.startswith("cc_"):
        assert float(value.detach()) == pytest.approx(0, abs=1e-12)
        assert differentiate(value, student).abs().max() < 1e-12


def test_wrong_options_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ConfigError, match="power is not valid; got 0"):
        at(x, x, power=0.0)
    with pytest.raises(ConfigError, match="'norm'"):
        inspect.unwrap(at)(x, x, form="norms")
    with pytest.raises(ConfigError, match="'attention'"):
        inspect.unwrap(ft)(x, x, form="atention")
    with pytest.raises(ConfigError, match="'l1'"):
        inspect.unwrap(ft)(x, x, distance="l2")
    with pytest.raises(ConfigError, match="mean, none, sum"):
        inspect.unwrap(nst)(x, x, reduction="avg")
    with pytest.raises(ConfigError, match="gamma is not valid"):
        cc(x, x, gamma=-1.0)
    with pytest.raises(ConfigError, match="'square'"):
        inspect.unwrap(cc)(x, x, distance="squared")
    for loss in (cc, ft, rkd_angle, sp):
        with pytest.raises(ConfigError, match="'skip'"):
            inspect.unwrap(loss)(x, x, degenerate="skipped")
    with pytest.raises(ConfigError, match="eps"):
        pkt(x, x, eps=0.0)
