"""Losses on pre-activations and fused maps: AB, OFD and ReviewKD's against their formulas and at their edges."""

from __future__ import annotations

import inspect
from statistics import NormalDist

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import ab, hcl, ofd, ofd_margin

MARGIN = torch.tensor([-0.2, -0.7, -1.5], dtype=torch.float64)


def draw(shape=(4, 3, 6, 5), seed=0, size=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (size * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.to(dtype).requires_grad_(), teacher.to(dtype)


LOSSES = {"ab": ab, "ofd": lambda s, t, **options: ofd(s, t, MARGIN, **options), "hcl": hcl}
each = pytest.mark.parametrize("name", LOSSES)
by_sample = pytest.mark.parametrize("name", ["ab", "ofd"])


def differentiate(loss, x):
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_ab_is_the_published_pair_of_cases(margin):
    s, t = draw()
    t[0, 0, 0, :2] = 0.0
    with torch.no_grad():
        s[0, 0, 0] = torch.tensor([-margin, margin, 0.0, 5.0, -5.0], dtype=torch.float64)
    off = (s + margin).square() * ((s > -margin) & (t <= 0))
    on = (s - margin).square() * ((s <= margin) & (t > 0))
    expected = (off + on).sum() / len(s)
    value = ab(s, t, margin=margin)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), differentiate(expected, s))


def test_ofd_is_a_partial_distance():
    s, t = draw()
    t[0] = s.detach()[0]
    target = torch.maximum(t, MARGIN[:, None, None])
    expected = ((s - target).square() * ((s > target) | (target > 0))).sum() / len(s)
    value = ofd(s, t, MARGIN)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(differentiate(value, s), differentiate(expected, s))


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (0.5, 0.7), (-2.0, -1.0), (0.3, 0.9), (0.1, 5.0)])
def test_margins_are_the_mean_of_what_is_negative(weight, bias):
    margin = ofd_margin(torch.tensor([weight]), torch.tensor([bias]))
    below = NormalDist(bias, abs(weight)).cdf(0)
    if below <= 1e-3:
        assert float(margin) == pytest.approx(-3 * abs(weight))
        return
    x = bias + abs(weight) * torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    assert float(margin) == pytest.approx(float(x[x < 0].mean()), abs=0.01)


def test_margins_of_channels_without_spread():
    margin = ofd_margin(torch.zeros(3), torch.tensor([-0.4, 0.0, 0.4]))
    torch.testing.assert_close(margin, torch.tensor([-0.4, 0.0, 0.0]))


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (8, 8), (7, 8), (8, 6), (16, 16)]
)
def test_hcl_is_a_pyramid(size):
    s, t = draw((3, 2, *size))
    expected, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for level in (4, 2, 1):
        if level < size[0]:
            weight /= 2
            total += weight
            pooled = (F.adaptive_avg_pool2d(x, level) for x in (s, t))
            expected = expected + weight * F.mse_loss(*pooled)
    torch.testing.assert_close(hcl(s, t), expected / total)
    torch.testing.assert_close(differentiate(hcl(s, t), s), differentiate(expected / total, s))


@each
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3, 1, 1), (3, 3, 3, 5)])
def test_gradients_are_those_of_the_value(name, shape):
    s, t = draw(shape, seed=3)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, t), s)


@by_sample
def test_reductions_agree(name):
    s, t = draw()
    rows, total, mean = (LOSSES[name](s, t, reduction=r) for r in ("none", "sum", "mean"))
    assert rows.shape == (4,)
    torch.testing.assert_close(rows.sum(), total)
    torch.testing.assert_close(rows.mean(), mean)
    upstream = torch.arange(4, dtype=torch.float64)
    weighted = torch.autograd.grad(rows, s, upstream)[0]
    separate = sum(i * differentiate(LOSSES[name](s, t, reduction="none")[i], s) for i in range(4))
    torch.testing.assert_close(weighted, separate)


@each
@pytest.mark.parametrize("size", [0.0, 1.0, 300.0])
def test_extremes_stay_finite(name, size):
    s, t = draw(size=size, dtype=torch.float32)
    loss = LOSSES[name](s, t)
    assert loss.isfinite()
    assert differentiate(loss, s).isfinite().all()


@each
def test_no_rows_give_a_connected_zero(name):
    s, t = draw((0, 3, 4, 4))
    loss = LOSSES[name](s, t)
    assert float(loss.detach()) == 0
    assert differentiate(loss, s).shape == s.shape


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    s, t = draw(dtype=dtype)
    loss, again = LOSSES[name](s, t), LOSSES[name](s.float(), t.float())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, again)
    assert differentiate(loss, s).dtype == dtype


@each
def test_the_teacher_gets_no_gradient(name):
    s, t = draw()
    t.requires_grad_()
    loss = LOSSES[name](s, t)
    assert torch.autograd.grad(loss, t, allow_unused=True)[0] is None
    assert not LOSSES[name](s.detach(), t).requires_grad


@each
def test_wrong_shapes_name_both(name):
    loss = {
        "ab": inspect.unwrap(ab),
        "ofd": lambda s, t: inspect.unwrap(ofd)(s, t, MARGIN),
        "hcl": inspect.unwrap(hcl),
    }[name]
    with pytest.raises(ShapeError, match=r"\(2, 3, 4, 4\).*\(2, 3, 2, 2\)"):
        loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2))


def test_wrong_options_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ConfigError, match="margin"):
        ab(x, x, margin=0.0)
    with pytest.raises(ShapeError, match="margins"):
        inspect.unwrap(ofd)(x, x, torch.zeros(4))
