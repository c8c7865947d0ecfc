"""The theory of Bayesian teachers on Gaussian classes: closed forms, orderings and gates."""

from __future__ import annotations

import pytest
import torch

from limbeck.bayes.theory import (
    EXACT,
    ONE_HOT,
    GaussianClasses,
    additive_noise,
    best_mixing,
    dirichlet,
    dirichlet_noise,
    jacobian_squares,
    label_noise,
    linear_course,
    measured_noise,
    with_one,
)

DATA = GaussianClasses()
KINDS = [ONE_HOT, 0.5, 5.0, 50.0, EXACT]


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    draws = torch.Generator().manual_seed(1)
    return *DATA.draw(count, draws), draws


def test_the_posterior_is_bayes_rule() -> None:
    x, p, y, _ = drawn(20000)
    scale = DATA.variance**0.5
    logs = torch.distributions.Normal(DATA.means, scale).log_prob(x[:50, None]).sum(2)
    torch.testing.assert_close(p[:50], logs.softmax(1))
    assert float((p.gather(1, y[:, None])).mean()) == pytest.approx(
        float(p.square().sum(1).mean()), abs=0.005
    )


def test_jacobians_are_those_of_autograd() -> None:
    x, p, _, _ = drawn(3)
    found = torch.autograd.functional.jacobian(lambda w: (with_one(x) @ w).softmax(1), DATA.optimum())
    torch.testing.assert_close(found.square().sum((2, 3)), jacobian_squares(x, p))


@pytest.mark.parametrize("concentration", [ONE_HOT, 0.5, 5.0, 50.0])
def test_the_noise_of_dirichlet_targets_is_that_of_labels_over_a_plus_one(concentration: float) -> None:
    x, p, y, draws = drawn(200000)
    measured = measured_noise(x, p, dirichlet(p, concentration, y, draws))
    assert measured == pytest.approx(label_noise(x, p) / (concentration + 1), rel=0.02)


def test_additive_noise_and_exact_targets() -> None:
    x, p, _, draws = drawn(200000)
    noisy = p + 0.1 * torch.randn(p.shape, generator=draws, dtype=p.dtype)
    assert measured_noise(x, p, noisy) == pytest.approx(additive_noise(x, p, 0.01), rel=0.01)
    assert measured_noise(x, p, p) < 1e-25


def test_mixing_is_least_where_it_is_said_to_be() -> None:
    x, p, y, draws = drawn(400000)
    labels, teacher = dirichlet(p, ONE_HOT, y, draws), dirichlet(p, 5.0, y, draws)
    weight, least = best_mixing(label_noise(x, p), dirichlet_noise(x, p, 5.0))
    assert weight == pytest.approx(6 / 7)
    found = {w: measured_noise(x, p, (1 - w) * labels + w * teacher) for w in (0.7, weight, 1.0)}
    assert min(found, key=found.__getitem__) == weight
    assert found[weight] == pytest.approx(least, rel=0.01)


@pytest.mark.slow
def test_floors_follow_the_law_and_the_first_order() -> None:
    """Ratios to one-hot 1/(a+1), floor alpha sigma / 4, and no floor at all under exact probabilities."""
    course = linear_course(DATA, KINDS, students=8, steps=12000, evaluations=40, from_optimum=True)
    floor = course.floor(0.5).view(5, 8).mean(1)
    ratios = floor / floor[0]
    torch.testing.assert_close(
        ratios[:4], torch.tensor([1, 2 / 3, 1 / 6, 1 / 51]).double(), rtol=0.15, atol=0
    )
    x, p, _, _ = drawn(100000)
    assert float(floor[0]) == pytest.approx(0.01 * label_noise(x, p) / 4, rel=0.15)
    assert float(floor[4]) < 1e-15
    noise = course.noise[-20:].view(20, 5, 8).mean((0, 2))
    assert float(noise[0]) == pytest.approx(label_noise(x, p), rel=0.1)


@pytest.mark.slow
def test_orderings_from_a_cold_start() -> None:
    course = linear_course(DATA, KINDS, students=4, steps=15000)
    floor, moves = (v.view(5, 4).mean(1) for v in (course.floor(), course.fluctuation()))
    assert floor.tolist() == sorted(floor.tolist(), reverse=True)
    assert floor[4] < floor[0] / 3
    assert moves[4] < moves[0] / 4
