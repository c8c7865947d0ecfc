"""Comparative KD against transcriptions that make every tuple."""

from __future__ import annotations

import inspect
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import comparative_kd, kd

shapes = pytest.mark.parametrize(
    ("n", "size", "c", "seed"),
    [(1, 2, 3, 0), (2, 2, 2, 1), (7, 2, 4, 2), (7, 3, 2, 3), (6, 4, 3, 4), (6, 5, 2, 5)],
)
OPTIONS = [
    {},
    {"group_size": 3},
    {"group_size": 4, "draws": 2},
    {"form": "kl"},
    {"form": "kl", "group_size": 3, "temperature": 2.0, "draws": 2},
    {"share": 0.3},
    {"form": "kl", "share": 0.5, "group_size": 3},
    {"draws": "all", "group_size": 3},
]


def draw(n, c, seed, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (size * torch.randn(n, c, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


def mixed(x, tuples, share):
    """One row per tuple ``(positive ids, negative ids)``."""
    first, second = (1, -1) if share is None else (share, 1 - share)
    return torch.stack([first * x[a].mean(0) + second * x[b].mean(0) for a, b in tuples])


def distance(student, teacher, tuples, form="mse", temperature=4.0, share=None):
    s, t = mixed(student, tuples, share), mixed(teacher, tuples, share)
    if form == "mse":
        return F.mse_loss(s, t)
    log_s, p = F.log_softmax(s / temperature, 1), F.softmax(t / temperature, 1)
    return F.kl_div(log_s, p, reduction="batchmean") * temperature**2


def cut(rows, size):
    border = size - size // 2
    return [(list(part[:border]), list(part[border:])) for part in rows]


def regrouped(n, size, draws):
    """The tuples of all draws, written as row ids."""
    count = n // size
    rows = [
        [(m + j * d) % count * size + j for j in range(size)]
        for d in range(min(draws, count))
        for m in range(count)
    ]
    return cut(rows, size)


def every(n, size):
    """All tuples of different rows."""
    border = size - size // 2
    return [
        (list(first), [i for i in rows if i not in first])
        for rows in combinations(range(n), size)
        for first in combinations(rows, border)
    ]


def same(got, expected, student):
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-13)
    a, b = (torch.autograd.grad(x, student, retain_graph=True)[0] for x in (got, expected))
    assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)


@shapes
@pytest.mark.parametrize("form", ["mse", "kl"])
@pytest.mark.parametrize("share", [None, 0.5, 0.2])
@pytest.mark.parametrize("draws", [1, 2, 50])
def test_tuples_of_the_batch(form, share, draws, n, size, c, seed):
    student, teacher = draw(n, c, seed)
    got = comparative_kd(
        student, teacher, group_size=size, form=form, temperature=3.0, draws=draws, share=share
    )
    if n < size:
        assert float(got.detach()) == 0
        return
    expected = distance(student, teacher, regrouped(n, size, draws), form, 3.0, share)
    same(got, expected, student)


@shapes
def test_the_closed_form_is_the_mean_over_all_tuples(n, size, c, seed):
    student, teacher = draw(n, c, seed)
    got = comparative_kd(student, teacher, group_size=size, draws="all")
    if n < size:
        assert float(got.detach()) == 0
    else:
        same(got, distance(student, teacher, every(n, size)), student)


def test_all_pairs_are_twice_the_unbiased_variance():
    student, teacher = draw(6, 4, 0)
    expected = 2 * (student - teacher).var(0, unbiased=True).mean()
    same(comparative_kd(student, teacher, draws="all"), expected, student)


def test_draws_take_each_row_once_and_no_tuple_twice():
    for n, size in ((8, 2), (9, 3), (11, 3), (12, 4)):
        count = n // size
        tuples = [a + b for a, b in regrouped(n, size, 100)]
        assert len({tuple(rows) for rows in tuples}) == len(tuples) == count**2
        for d in range(count):
            rows = [row for part in tuples[d * count : (d + 1) * count] for row in part]
            assert sorted(rows) == list(range(count * size))


def test_a_constant_vector_on_all_logits_changes_nothing():
    student, teacher = draw(8, 5, 0)
    offset = torch.randn(5, dtype=torch.float64) * 10
    for options in ({}, {"form": "kl", "group_size": 3}, {"draws": "all"}):
        a = comparative_kd(student, teacher, **options)
        assert torch.allclose(a, comparative_kd(student + offset, teacher, **options))
        assert torch.autograd.grad(a, student)[0].sum(0).abs().max() < 1e-12
    moved = comparative_kd(student + offset, teacher, share=0.5)
    assert not torch.allclose(moved, comparative_kd(student, teacher, share=0.5))


def test_pairs_of_rows_with_zero_rows_are_plain_kd():
    student, teacher = draw(5, 4, 0)
    rows = torch.stack([student, torch.zeros_like(student)], 1).flatten(0, 1)
    others = torch.stack([teacher, torch.zeros_like(teacher)], 1).flatten(0, 1)
    assert torch.allclose(comparative_kd(rows, others, form="kl"), kd(student, teacher))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (7, 4)])
def test_gradients_are_those_of_the_value(options, shape):
    student, teacher = draw(*shape, seed=1)
    torch.autograd.gradcheck(lambda x: comparative_kd(x, teacher, **options), student)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_extreme_logits_and_few_rows_stay_finite(options, n):
    student, teacher = (x.float() for x in draw(n, 3, 2, size=300.0))
    student = student.detach().requires_grad_()
    loss = comparative_kd(student, teacher, **options)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
    if n < options.get("group_size", 2):
        assert float(loss.detach()) == 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(options, dtype):
    student, teacher = (x.detach().to(dtype) for x in draw(8, 5, 0))
    half, full = student.clone().requires_grad_(), student.float().requires_grad_()
    a = comparative_kd(half, teacher, **options)
    b = comparative_kd(full, teacher.float(), **options)
    assert a.dtype == torch.float32
    assert torch.equal(a, b)
    gradient = torch.autograd.grad(a, half)[0]
    assert torch.equal(gradient, torch.autograd.grad(b, full)[0].to(dtype))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_teacher_gets_no_gradient(options):
    student, teacher = draw(6, 4, 0)
    teacher.requires_grad_()
    loss = comparative_kd(student, teacher, **options)
    assert torch.autograd.grad(loss, teacher, allow_unused=True)[0] is None
    assert not comparative_kd(student.detach(), teacher, **options).requires_grad


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group_size": 1}, "group_size is not valid; got 1"),
        ({"draws": 0}, "draws is not valid; got 0"),
        ({"draws": "all", "form": "kl"}, "closed form only for squared differences"),
        ({"draws": "all", "share": 0.5}, "closed form only for squared differences"),
        ({"form": "mae"}, "form is not valid"),
        ({"temperature": 0.0}, "temperature is not valid"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        inspect.unwrap(comparative_kd)(torch.zeros(4, 3), torch.zeros(4, 3), **options)


def test_wrong_shapes_name_both():
    with pytest.raises(ShapeError, match=r"student \(4, 3\), teacher \(4, 2\)"):
        inspect.unwrap(comparative_kd)(torch.zeros(4, 3), torch.zeros(4, 2))
