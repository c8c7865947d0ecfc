from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.evaluation import CORRUPTIONS, corrupt
from limbeck.evaluation import corruptions as own


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 12, channels: int = 3, height: int = 20, width: int = 16) -> Tensor:
    """Smooth blobs, so that geometry and noise both show."""
    rough = torch.rand((n, channels, 5, 4), generator=seeded(1))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_they_grow_with_severity_and_stay_pixels(name: str, channels: int) -> None:
    images = pictures(channels=channels)
    before = images.clone()
    changed = [corrupt(images, name, severity, seeded()) for severity in (1, 2, 3, 4, 5)]
    assert torch.equal(images, before)
    for found in changed:
        assert found.shape == images.shape
        assert found.dtype == torch.float32
        assert 0 <= found.min() <= found.max() <= 1
    distance = [float((found - images).square().mean()) for found in changed]
    assert distance[0] > 0
    assert distance == sorted(distance)
    assert len(set(distance)) == 5
    assert torch.equal(corrupt(images, name, 3, seeded()), changed[2])


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "occlusion", "translate"])
def test_another_seed_draws_another_pattern(name: str) -> None:
    images = pictures()
    assert not torch.equal(corrupt(images, name, 3, seeded(0)), corrupt(images, name, 3, seeded(1)))


def test_noise_has_the_size_that_it_says() -> None:
    grey = torch.full((50, 1, 32, 32), 0.5)
    assert float(corrupt(grey, "gaussian_noise", 2, seeded()).std()) == pytest.approx(0.08, rel=0.03)
    shot = corrupt(grey, "shot_noise", 1, seeded())
    assert float(shot.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shot.var()) == pytest.approx(0.5 / 60, rel=0.05)
    hit = corrupt(grey, "impulse_noise", 5, seeded())
    assert float((hit != 0.5).float().mean()) == pytest.approx(0.17, abs=0.01)
    assert float((hit == 1).float().mean()) == pytest.approx(0.085, abs=0.01)
    hidden = corrupt(torch.ones(200, 1, 20, 20), "occlusion", 3, seeded()) == 0.5
    assert float(hidden.float().mean()) == pytest.approx(0.14, abs=0.01)


def test_light_and_resolution_follow_their_formulas() -> None:
    images = pictures()
    mean = images.mean((2, 3), keepdim=True)
    assert torch.allclose(corrupt(images, "contrast", 2, seeded()), 0.5 * images + 0.5 * mean, atol=1e-6)
    assert torch.allclose(corrupt(images, "brightness", 3, seeded()), (images + 0.18).clamp(max=1))
    coarse = own._pixelate(images, 0.5, seeded())
    blocks = images.view(12, 3, 10, 2, 8, 2).mean((3, 5))
    assert torch.allclose(coarse, blocks.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-6)
    flat = torch.full((2, 3, 9, 7), 0.3)
    assert torch.allclose(corrupt(flat, "blur", 5, seeded()), flat, atol=1e-6)


def test_blur_is_a_gaussian() -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    blurred = own._blur(point, 2 / 41, seeded())[0, 0]
    at = torch.arange(-20.0, 21)
    expected = torch.exp(-(at[:, None] ** 2 + at**2) / 8)
    assert torch.allclose(blurred, expected / expected.sum(), atol=1e-4)


def test_geometry_turns_and_shifts_by_what_it_says() -> None:
    images = pictures(height=16, width=16)
    turned = own._rotate(images, 90.0, seeded())
    for image, found in zip(images, turned, strict=True):
        either = [torch.rot90(image, k, (1, 2)) for k in (1, 3)]
        assert min(float((found - e).abs().max()) for e in either) < 1e-4
    wide = torch.zeros(1, 1, 20, 40)
    wide[..., 8:12, 10:30] = 1  # a lying bar stands upright, as long as before
    upright = own._rotate(wide, 90.0, seeded())[0, 0]
    assert torch.allclose(upright[:, 18:22], torch.ones(20, 4), atol=1e-4)
    assert float(upright.sum()) == pytest.approx(80, abs=1e-2)
    dot = torch.zeros(30, 1, 40, 40)
    dot[:, :, 19:21, 19:21] = 1
    moved = own._translate(dot, 0.2, seeded())[:, 0]
    rows = (moved.sum(2) * torch.arange(40)).sum(1) / moved.sum((1, 2)) - 19.5
    columns = (moved.sum(1) * torch.arange(40)).sum(1) / moved.sum((1, 2)) - 19.5
    assert torch.allclose((rows.square() + columns.square()).sqrt(), torch.full((30,), 8.0), atol=1e-2)
    assert len({round(math.atan2(r, c), 2) for r, c in zip(rows.tolist(), columns.tolist())}) > 25


def test_unknown_names_and_severities_are_refused() -> None:
    with pytest.raises(ConfigError, match="no corruption 'blurr'; expected 'blur'"):
        corrupt(pictures(), "blurr", 1, seeded())
    with pytest.raises(ConfigError, match="got 6; expected 1 to 5"):
        corrupt(pictures(), "blur", 6, seeded())
