"""Transport between clouds and between similarity rows: against other libraries, the formula and its limits."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import ccc, centroid, flat_cosine, gram_ot, mmd, sinkhorn_divergence
from limbeck.losses.gram_ot import RELEASED, anchors, cosines
from limbeck.losses.m2pkd import trust
from limbeck.losses.ot import half_squares, solve


def normal(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def grams(n: int = 64, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return cosines(normal(n, 8, dtype=dtype)), cosines(normal(n, 8, seed=1, dtype=dtype))


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
@pytest.mark.parametrize("eps", [1.0, 0.1, 0.03])
def test_the_value_is_that_of_pot(eps: float) -> None:
    ot = pytest.importorskip("ot")
    x, y = grams(24, torch.float64)
    theirs = ot.solve(ot.dist(x, y) / 2, reg=eps, max_iter=5000, tol=1e-7)
    ours = solve(half_squares(x, y), eps, iterations=3000, tolerance=1e-7)
    assert float(ours.value) == pytest.approx(float(theirs.value), rel=1e-5)
    assert (ours.plan - theirs.plan).abs().sum() < 1e-3


@pytest.mark.parametrize("blur", [1.0, 0.3, 0.1])
def test_value_and_gradient_are_those_of_geomloss(blur: float) -> None:
    geomloss = pytest.importorskip("geomloss")
    x, y = (z.double().requires_grad_() for z in grams(32, torch.float64))
    theirs = geomloss.SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.98)(x, y)
    (expected,) = torch.autograd.grad(theirs, x)
    ours = sinkhorn_divergence(x, y, blur=blur, iterations=5000, tolerance=1e-8)
    (found,) = torch.autograd.grad(ours, x)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=5e-3)
    assert F.cosine_similarity(found.flatten(), expected.flatten(), 0) > 0.995


def test_the_gradient_is_that_of_the_value() -> None:
    x, y = normal(4, 2).requires_grad_(), normal(4, 2, seed=1)

    def value(x: Tensor) -> Tensor:
        return sinkhorn_divergence(x, y, blur=0.7, iterations=300, tolerance=1e-10)

    torch.autograd.gradcheck(value, x, atol=1e-5)


@pytest.mark.parametrize("eps", [1.0, 0.1, 0.01, 1e-3, 1e-4])
def test_it_is_finite_where_others_end_in_zero(eps: float) -> None:
    x, y = grams(128)
    x.requires_grad_()
    value = sinkhorn_divergence(x, y, blur=eps**0.5)
    (gradient,) = torch.autograd.grad(value, x)
    assert float(value.detach()) > 0.1
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0.1
    plan = solve(half_squares(x.detach(), y), eps).plan
    assert torch.allclose(plan.sum(1), torch.full((128,), 1 / 128), atol=1e-6)
    assert (plan.sum(0) - 1 / 128).abs().sum() < 0.3


def test_equal_clouds_are_at_no_distance_in_any_order() -> None:
    x, y = grams(16, torch.float64)
    assert float(sinkhorn_divergence(x, x)) < 1e-12
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    assert float(sinkhorn_divergence(x, x[order])) < 1e-6
    assert torch.allclose(sinkhorn_divergence(x, y), sinkhorn_divergence(x, y[order]), rtol=1e-3)
    assert torch.allclose(sinkhorn_divergence(x, y), sinkhorn_divergence(y, x), rtol=1e-3)


def test_clouds_of_unlike_sizes_and_single_points() -> None:
    assert float(sinkhorn_divergence(torch.zeros(1, 2), torch.ones(1, 2))) == pytest.approx(1.0)
    x = torch.cat([torch.zeros(2, 2), torch.ones(2, 2)])
    assert float(sinkhorn_divergence(x, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))) < 1e-3
    assert float(sinkhorn_divergence(torch.zeros(0, 2), torch.ones(1, 2))) == 0


def written_out(s: Tensor, t: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The released selection, one row after another."""
    ours, theirs = cosines(s), cosines(t)
    chosen = [torch.argsort(row)[:k] for row in theirs]
    a, b = ours - ours.min(), theirs - theirs.min()
    return (
        torch.stack([row[i] for row, i in zip(a, chosen)]),
        torch.stack([row[i] for row, i in zip(b, chosen)]),
    )


def test_the_released_objective_is_the_transport_of_its_anchors() -> None:
    s, t = normal(20, 4), normal(20, 6, seed=1)
    a, b = written_out(s, t, 5)
    released = {**RELEASED, "k": 5}
    assert torch.allclose(gram_ot(s, t, **released), sinkhorn_divergence(a, b))
    identity = {**released, "plan": "identity"}
    assert torch.allclose(gram_ot(s, t, **identity), (a - b).square().sum() / 40)


def test_the_mask_keeps_columns_where_they_are() -> None:
    s, t = normal(12, 4), normal(12, 6, seed=1)
    chosen = anchors(cosines(t), "nearest", 3)
    assert chosen is not None
    assert (chosen[:, 0] == torch.arange(12)).all()  # the nearest is the sample itself
    kept = torch.zeros(12, 12, dtype=torch.bool).scatter_(1, chosen, True)
    a, b = (cosines(x).where(kept, 0.0) for x in (s, t))
    assert torch.allclose(gram_ot(s, t, anchor="nearest", k=3), sinkhorn_divergence(a, b))


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
@pytest.mark.parametrize("backend", ["geomloss", "pot"])
def test_other_solvers_agree(backend: Any) -> None:
    pytest.importorskip({"geomloss": "geomloss", "pot": "ot"}[backend])
    s, t = normal(20, 4), normal(20, 6, seed=1)
    ours, theirs = (gram_ot(s, t, blur=0.5, backend=b) for b in ("native", backend))
    assert float(ours) == pytest.approx(float(theirs), rel=0.02)


OPTIONS: list[dict[str, Any]] = [{}, dict(RELEASED), {"anchor": "nearest"}, {"plan": "identity"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_edges_of_a_batch(options: dict[str, Any]) -> None:
    for n in (0, 1):
        s = torch.randn(n, 4, requires_grad=True)
        value = gram_ot(s, torch.randn(n, 3), **options)
        assert float(value.detach()) == 0
        assert torch.autograd.grad(value, s)[0].eq(0).all()
    s, t = normal(6, 4).requires_grad_(), normal(6, 3, seed=1).requires_grad_()
    value = gram_ot(s, t, **options)  # fewer samples than anchors
    assert torch.autograd.grad(value, t, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(value, s)[0].isfinite().all()
    assert float(gram_ot(t.detach(), t.detach(), **options)) == pytest.approx(0, abs=1e-9)
    zero = torch.zeros(6, 4, requires_grad=True)
    assert torch.autograd.grad(gram_ot(zero, t, **options), zero)[0].isfinite().all()
    large = (300 * normal(6, 4, dtype=torch.float32)).requires_grad_()
    assert torch.autograd.grad(gram_ot(large, t, **options), large)[0].isfinite().all()


def test_autocast_does_not_lower_it() -> None:
    s, t = normal(16, 4, dtype=torch.float32), normal(16, 4, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = gram_ot(s, t)
    assert lowered.dtype == torch.float32
    assert torch.equal(lowered, gram_ot(s, t))
    assert gram_ot(s.bfloat16(), t.bfloat16()).dtype == torch.float32


def test_centroids_and_their_gradient_at_equality() -> None:
    s, t = normal(8, 4), normal(8, 4, seed=1)
    assert torch.allclose(centroid(s, t), torch.linalg.vector_norm(cosines(s).mean(0) - cosines(t).mean(0)))
    same = s.clone().requires_grad_()
    assert torch.autograd.grad(centroid(same, s), same)[0].isfinite().all()
    assert float(centroid(s[:1], t[:1])) == 0


def test_ccc_is_its_formula_and_leaves_rows_without_target_out() -> None:
    x, y = normal(30, 2).requires_grad_(), normal(30, 2, seed=1)
    a, b = x.detach()[:, 0], y[:, 0]
    both = torch.stack([a, b])
    expected = 2 * torch.cov(both)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2 * 1)
    assert float(ccc(x[:, :1], y[:, :1], unbiased=True).detach()) == pytest.approx(
        1 - float(expected), abs=1e-6
    )
    torch.autograd.gradcheck(lambda x: ccc(x, y), x)
    holes = y.clone()
    holes[3:7] = torch.nan
    known = ~torch.isnan(holes).any(1)
    assert torch.equal(ccc(x, holes), ccc(x[known], y[known]))
    (gradient,) = torch.autograd.grad(ccc(x, torch.full_like(y, torch.nan)), x)
    assert gradient.eq(0).all()
    assert float(ccc(x, torch.zeros_like(y)).detach()) == pytest.approx(1.0, abs=1e-6)
    assert torch.autograd.grad(ccc(300 * x.float(), y), x)[0].isfinite().all()


def test_mmd_and_the_flat_cosine() -> None:
    x, y = normal(6, 3).requires_grad_(), normal(5, 3, seed=1)
    both = torch.cat([x.detach(), y])
    apart = (both[:, None] - both[None]).square().sum(2)
    width = apart.sum() / (11 * 10)
    kernel = torch.stack([torch.exp(-apart / (width * 2.0**i)) for i in (-2, -1, 0, 1, 2)]).sum(0)
    expected = kernel[:6, :6].mean() + kernel[6:, 6:].mean() - 2 * kernel[:6, 6:].mean()
    assert torch.allclose(mmd(x, y), expected)
    z = normal(6, 3, seed=2)
    assert torch.allclose(flat_cosine(x, z), 1 - F.cosine_similarity(x.flatten(), z.flatten(), 0))
    torch.autograd.gradcheck(lambda x: flat_cosine(x, z), x)


def test_how_far_a_teacher_is_trusted() -> None:
    error = torch.tensor([0.0, 0.1, 0.5, 1.5])
    assert torch.allclose(trust(error, most=0.5), torch.tensor([0.5, 0.45, 0.25, 0.0]))
    released = trust(error, rule="released", threshold=0.2)
    assert torch.allclose(released, torch.tensor([0.2, 0.3, 1.0, 1.0]))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ConfigError, match="'gather'"):
        inspect.unwrap(gram_ot)(torch.zeros(3, 2), torch.zeros(3, 2), layout="gathr")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="blur"):
        gram_ot(torch.zeros(3, 2), torch.zeros(3, 2), blur=0.0)
    with pytest.raises(ShapeError, match="with one N"):
        gram_ot(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match=r"\(3, 2\) and \(3, 4\)"):
        sinkhorn_divergence(torch.zeros(3, 2), torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="predictions and targets"):
        ccc(torch.zeros(3, 2), torch.zeros(3, 1))
