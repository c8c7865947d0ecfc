"""PGD against the closed form of a linear network, and on a trained one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limbeck import Run
from limbeck.data import DataConfig, load
from limbeck.evaluation import pgd
from limbeck.evaluation.pixels import PixelModel


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(scale: float = 1.0) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A two-class linear network on 3x4x4 images and the weight of its margin (class 0 over class 1)."""
    weight = torch.randn((48, 2), generator=seeded(3)) * scale
    weight -= weight.mean(0)  # grey says nothing about the class
    return lambda x: x.flatten(1) @ weight, weight[:, 0] - weight[:, 1]


@pytest.mark.parametrize("spread", [0.02, 0.5])  # far from black and white, and clipped by them
@pytest.mark.parametrize("scale", [1.0, 3000.0])  # at 3000 cross-entropy and its gradient are 0 in float32
def test_success_on_a_linear_network_is_the_closed_form(spread: float, scale: float) -> None:
    """Every pixel can move by min(epsilon, room to black or white); the margin falls by sum |w| times that."""
    model, margin_weight = linear(scale)
    images = (0.5 + spread * (2 * torch.rand((400, 3, 4, 4), generator=seeded(1)) - 1)).clamp(0, 1)
    labels = model(images).argmax(1)
    own = margin_weight * (1 - 2 * labels[:, None])
    flat = images.flatten(1)
    epsilon = 0.04 if spread > 0.1 else 0.002
    room = torch.where(own > 0, flat, 1 - flat).clamp(max=epsilon)
    margin = (flat * own).sum(1)
    least = margin - (room * own.abs()).sum(1)
    worst = pgd(model, images, labels, epsilon, seeded())
    fooled = model(worst).argmax(1) != labels
    clear = least.abs() > 1e-4 * margin.abs().max()
    assert clear.float().mean() > 0.97
    assert torch.equal(fooled[clear], (least < 0)[clear])
    assert 0.2 < fooled.float().mean() < 0.95
    assert (worst - images).abs().max() <= epsilon + 1e-6
    assert 0 <= worst.min() <= worst.max() <= 1


def test_images_that_are_wrong_already_stay_as_they_are() -> None:
    model, _ = linear()
    images = torch.rand((50, 3, 4, 4), generator=seeded(1))
    wrong = 1 - model(images).argmax(1)
    assert torch.equal(pgd(model, images, wrong, 0.1, seeded()), images)


def test_an_attack_on_a_trained_network_is_strong_small_and_leaves_it_alone(trained: Run) -> None:
    data, student = load(DataConfig()), trained.student()
    model = PixelModel(student, data.mean, data.std, classes=10)
    images, labels = data.test.fetch(torch.arange(200))
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    right = []
    for epsilon in (0.0, 0.03, 0.1, 0.3):
        worst = pgd(model, images, labels, epsilon, seeded())
        assert (worst - images).abs().max() <= epsilon + 1e-6
        assert 0 <= worst.min() <= worst.max() <= 1
        right.append(int(model.right(worst, labels).sum()))
    assert right[0] == int(model.right(images, labels).sum())
    assert right == sorted(right, reverse=True)
    assert right[-1] < 0.3 * right[0]
    noise = images + 0.3 * (2 * (torch.rand(images.shape, generator=seeded()) < 0.5).float() - 1)
    assert right[-1] < int(model.right(noise.clamp(0, 1), labels).sum())  # better than chance directions
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


def test_more_steps_fool_no_fewer(trained: Run) -> None:
    data = load(DataConfig())
    model = PixelModel(trained.student(), data.mean, data.std, classes=10)
    images, labels = data.test.fetch(torch.arange(100))
    fooled = []
    for steps in (1, 5, 20):
        worst = pgd(model, images, labels, 0.1, seeded(), steps=steps, step=0.025)
        fooled.append(int((~model.right(worst, labels)).sum()))
    assert fooled == sorted(fooled)
