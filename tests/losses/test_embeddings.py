"""Losses on embeddings: CRD, DCD, RRD, ITRD against their formulas, at their edges, and in low precision."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import crd, crd_batch, dcd, itrd_correlation, itrd_mutual, rrd

SAMPLES = 12


def draw(n=6, width=5, seed=0, size=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return (size * student).to(dtype).requires_grad_(), (size * teacher).to(dtype)


def memory(width=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        F.normalize(torch.randn(SAMPLES, width, generator=generator, dtype=torch.float64)) for _ in range(2)
    ]


def candidates(n):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(SAMPLES, (n, 8), generator=generator)


LOSSES = {
    "crd": lambda s, t: crd(s, t, *memory(s.shape[1]), candidates(len(s)), temperature=0.5)[0],
    "crd_batch": lambda s, t: crd_batch(s, t, torch.arange(len(s)) // 2, temperature=0.5)[0],
    "dcd": lambda s, t: dcd(s, t, 3.0),
    "dcd_contrast": lambda s, t: dcd(s, t, 3.0, alpha=0.0),
    "rrd": lambda s, t: rrd(s, t, memory(s.shape[1])[0], student_temperature=0.5, teacher_temperature=0.2),
    "itrd_correlation": itrd_correlation,
    "itrd_mutual": itrd_mutual,
}
BOTH = ("crd", "crd_batch", "dcd", "dcd_contrast")
each = pytest.mark.parametrize("name", LOSSES)


def differentiate(loss, x):
    return torch.autograd.grad(loss, x)[0]


def direct_crd(s, t, memories, chosen, temperature, eps):
    s, t, total = F.normalize(s), F.normalize(t), 0
    n, k = len(memories[0]), chosen.shape[1] - 1
    for anchors, bank in ((s, memories[1]), (t, memories[0])):
        for v, row in zip(anchors, chosen, strict=True):
            total = total - direct_row((bank[row] @ v / temperature).exp(), None, k / n, eps)
    return total / len(s)


def direct_row(e, z, m, eps):
    e = e if z is None else e / z
    return (e[0] / (e[0] + m + eps)).log() + (m / (e[1:] + m + eps)).log().sum()


def test_crd_is_noise_contrastive_estimation():
    s, t = draw()
    bank, chosen = memory(), candidates(6)
    value, constants = crd(s, t, *bank, chosen, constants=torch.ones(2).double(), temperature=0.5)
    assert torch.equal(constants, torch.ones(2).double())
    expected = direct_crd(s, t, bank, chosen, 0.5, 1e-7)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), differentiate(expected, s))


def test_crd_takes_its_constants_from_the_batch_once():
    s, t = draw()
    bank, chosen = memory(), candidates(6)
    first, constants = crd(s, t, *bank, chosen)
    mean = (torch.einsum("nkd,nd->nk", bank[1][chosen], F.normalize(s.detach())) / 0.07).exp().mean()
    torch.testing.assert_close(constants[0], mean * SAMPLES)
    again, kept = crd(s * 2 + 1, t, *bank, chosen, constants=constants)
    assert torch.equal(kept, constants)
    assert not torch.equal(first, again)


@pytest.mark.parametrize("large", [0, 16])
def test_a_huge_memory_is_read_row_by_row_to_the_same_numbers(monkeypatch, large):
    s, t = draw()
    expected = LOSSES["crd"](s, t)
    gradient = differentiate(expected, s)
    monkeypatch.setattr(importlib.import_module("limbeck.losses.crd"), "LARGE", large)
    value = LOSSES["crd"](s, t)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), gradient)


def test_crd_within_the_batch_is_crd_with_the_batch_as_memory():
    s, t = draw(4)
    own = torch.arange(4)
    chosen = torch.stack([torch.tensor([i, *(j for j in range(4) if j != i)]) for i in range(4)])
    bank = F.normalize(s.detach()), F.normalize(t)
    expected, _ = crd(s, t, *bank, chosen, eps=0.0)
    # crd knows K / n, the other form K: both constants are the batch's own
    value, _ = crd_batch(s, t, own)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), differentiate(expected, s))


def test_rows_of_one_class_do_not_repel():
    s, t = draw(4)
    alone, _ = crd_batch(s, t, torch.zeros(4, dtype=torch.int64))
    assert float(alone.detach()) == 0
    assert not differentiate(alone, s).any()
    labels = torch.tensor([0, 0, 1, 1])
    value = crd_batch(s, t, labels, constants=torch.ones(2).double())[0]
    moved = t.clone()
    moved[1] += 0.3
    other = crd_batch(s, moved, labels, constants=torch.ones(2).double())[0]
    assert not torch.equal(value, other)
    gradient = differentiate(value, s)[0]
    swapped = differentiate(other, s)[0]
    torch.testing.assert_close(gradient, swapped)  # row 0 does not see row 1's teacher


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_dcd_is_cross_entropy_and_a_divergence(alpha):
    s, t = draw(8)
    t.requires_grad_()
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = F.normalize(s) @ F.normalize(t).T * tau.exp() + bias
    expected = F.cross_entropy(x, torch.arange(8))
    expected = expected + alpha * F.kl_div(x.log_softmax(1), x.softmax(0).T, reduction="batchmean")
    value = dcd(s, t, tau.exp(), bias=bias, alpha=alpha)
    torch.testing.assert_close(value, expected)
    for ours, theirs in zip(
        torch.autograd.grad(value, [s, t, tau, bias]),
        torch.autograd.grad(expected, [s, t, tau, bias]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    assert abs(float(torch.autograd.grad(dcd(s, t, tau.exp(), bias=bias), bias)[0])) < 1e-14


def test_rrd_is_a_cross_entropy():
    s, t = draw()
    queue = memory()[0]
    target = (F.normalize(t) @ queue.T / 0.02).softmax(1)
    expected = -(target * (F.normalize(s) @ queue.T / 0.1).log_softmax(1)).sum(1).mean()
    value = rrd(s, t, queue)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), differentiate(expected, s))


def test_itrd_is_a_renyi_entropy_and_a_difference_of_grams():
    s, t = draw(7)
    a, b = ((x - x.mean(0)) / x.std(0) for x in (s, t))
    expected = ((a * b).mean(0) - 1).abs().pow(3.0).sum().log2()
    torch.testing.assert_close(itrd_correlation(s, t), expected)
    torch.testing.assert_close(differentiate(itrd_correlation(s, t), s), differentiate(expected, s))
    own, others = (F.normalize(x) @ F.normalize(x).T for x in (s, t))
    both = own * others
    expected = (own / own.trace()).square().sum() - (both / both.trace()).square().sum()
    torch.testing.assert_close(itrd_mutual(s, t), expected)
    torch.testing.assert_close(differentiate(itrd_mutual(s, t), s), differentiate(expected, s))


def test_constant_features_have_no_correlation():
    s, t = draw(6)
    constant = s.detach().clone()
    constant[:, 1] = 7.3
    constant.requires_grad_()
    teacher = t.clone()
    teacher[:, 2] = 0
    value = itrd_correlation(constant, teacher)
    assert value.isfinite()
    gradient = differentiate(value, constant)
    assert gradient.isfinite().all()
    assert not gradient[:, 1:3].any()
    assert gradient[:, 0].all()


@each
def test_gradients_are_those_of_the_value(name):
    if name.startswith("crd"):  # its constants come from the batch and are no part of the gradient
        return
    s, _ = draw(4)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, draw(4)[1]), s)


@each
def test_who_gets_a_gradient(name):
    s, t = draw()
    t.requires_grad_()
    gradient = torch.autograd.grad(LOSSES[name](s, t), t, allow_unused=True)[0]
    assert (gradient is not None and bool(gradient.any())) == (name in BOTH)
    assert not LOSSES[name](s.detach(), t.detach()).requires_grad


@each
@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 300.0])
def test_small_batches_and_extreme_sizes_stay_finite(name, n, size):
    s, t = draw(n, size=size, dtype=torch.float32)
    loss = LOSSES[name](s, t)
    assert loss.isfinite()
    gradient = differentiate(loss, s)
    assert gradient.isfinite().all()
    if n == 0 or (n == 1 and not name.startswith(("crd", "rrd"))):
        assert float(loss.detach()) == 0
        assert not gradient.any()


@each
def test_duplicates_stay_finite(name):
    s, t = draw(6)
    with torch.no_grad():
        s[1:4] = s[0]
        t[1:4] = t[0]
    assert differentiate(LOSSES[name](s, t), s).isfinite().all()


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    s, t = draw(dtype=dtype)
    loss = LOSSES[name](s, t)
    again = LOSSES[name](s.float(), t.float())
    assert loss.dtype == again.dtype
    assert loss.dtype.itemsize >= 4
    assert torch.equal(loss, again)
    assert differentiate(loss, s).dtype == dtype


@each
def test_wrong_shapes_name_both(name):
    loss = {
        "crd": lambda s, t: inspect.unwrap(crd)(s, t, *memory(), candidates(3)),
        "crd_batch": lambda s, t: inspect.unwrap(crd_batch)(s, t, torch.arange(3)),
        "dcd": lambda s, t: inspect.unwrap(dcd)(s, t, 1.0),
        "dcd_contrast": lambda s, t: inspect.unwrap(dcd)(s, t, 1.0),
        "rrd": lambda s, t: inspect.unwrap(rrd)(s, t, memory()[0]),
        "itrd_correlation": inspect.unwrap(itrd_correlation),
        "itrd_mutual": inspect.unwrap(itrd_mutual),
    }[name]
    with pytest.raises(ShapeError) as error:
        loss(torch.zeros(3, 5), torch.zeros(2, 4))
    assert "(3, 5)" in str(error.value)
    assert "(2, 4)" in str(error.value)


def test_wrong_options_are_refused():
    x, queue = torch.zeros(2, 3), torch.zeros(4, 3)
    with pytest.raises(ConfigError, match="scale"):
        dcd(x, x, 0.0)
    with pytest.raises(ConfigError, match="student_temperature"):
        rrd(x, x, queue, student_temperature=0.0)
    with pytest.raises(ConfigError, match="alpha"):
        itrd_correlation(x, x, alpha=0.0)
    with pytest.raises(ConfigError, match="temperature"):
        crd(x, x, queue, queue, torch.zeros(2, 2, dtype=torch.int64), temperature=-1.0)
