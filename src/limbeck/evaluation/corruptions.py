"""Ten plain corruptions of small images in five severities, in the style of the "-C" benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, suggest
from ..shapes import Images

SEVERITIES = (1, 2, 3, 4, 5)

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def corrupt(images: Images, name: str, severity: int, random: torch.Generator) -> Images:
    """Images under one corruption.

    These are Limbeck's own, written for grey and colour images of any size, not those of CIFAR-10-C: compare numbers
    between networks measured here, not with published mCE.

    Args:
        images: ``(B, c, h, w)`` in [0, 1].
        name: a key of ``CORRUPTIONS``.
        severity: 1 (mild) to 5.
        random: the generator, on the CPU. From an equal state all severities of one corruption draw the same
            pattern (Poisson counts of ``shot_noise`` excepted), only stronger.

    Returns:
        images of the same shape in [0, 1].

    Raises:
        ConfigError: no such corruption or severity.

    Source: after Hendrycks and Dietterich 2019 (arXiv 1903.12261).

    Example:
        >>> images = torch.full((1, 1, 2, 2), 0.5)
        >>> corrupt(images, "brightness", 5, torch.Generator()).unique()
        tensor([0.8000])
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"no corruption {name!r}", expected=suggest(name, list(CORRUPTIONS)))
    if severity not in SEVERITIES:
        raise ConfigError("no such severity", got=severity, expected="1 to 5")
    function, amounts = CORRUPTIONS[name]
    return function(images, amounts[severity - 1], random).clamp(0, 1)


def _gaussian_noise(images: Tensor, deviation: float, random: torch.Generator) -> Tensor:
    return images + deviation * torch.randn(images.shape, generator=random)


def _shot_noise(images: Tensor, photons: float, random: torch.Generator) -> Tensor:
    return torch.poisson(images * photons, generator=random) / photons


def _impulse_noise(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    hit, white = torch.rand((2, *images.shape), generator=random)
    return torch.where(hit < share, (white < 0.5).to(images.dtype), images)


def _blur(images: Tensor, sigma: float, random: torch.Generator) -> Tensor:
    """Gaussian blur of ``sigma`` side lengths, edges mirrored."""
    for dim in (2, 3):
        width = sigma * images.shape[dim]
        radius = min(math.ceil(3 * width), images.shape[dim] - 1)
        kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * width**2))
        kernel = (kernel / kernel.sum()).view((1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1))
        flat = images.flatten(0, 1)[:, None]
        padding = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        images = F.conv2d(F.pad(flat, padding, mode="reflect"), kernel).view(images.shape)
    return images


def _contrast(images: Tensor, factor: float, random: torch.Generator) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return mean + factor * (images - mean)


def _brightness(images: Tensor, light: float, random: torch.Generator) -> Tensor:
    return images + light


def _pixelate(images: Tensor, scale: float, random: torch.Generator) -> Tensor:
    """Rows and columns in groups, ``scale`` times as many as there were, and the mean of each block."""
    rows, columns = (_grouped(side, max(1, round(scale * side))) for side in images.shape[2:])
    return rows @ images @ columns


def _grouped(side: int, groups: int) -> Tensor:
    """The (symmetric) matrix that replaces every position by the mean of its group."""
    group = torch.arange(side) * groups // side
    same = (group[:, None] == group).float()
    return same / same.sum(1)


def _occlusion(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    """A grey rectangle over a share of the area, with the image's aspect ratio, at a random place inside."""
    place = torch.rand((len(images), 2, 1), generator=random)
    inside = []
    for axis, side in enumerate(images.shape[2:]):
        length = math.sqrt(share) * side
        start = place[:, axis] * (side - length)
        centre = torch.arange(side) + 0.5
        inside.append((centre >= start) & (centre < start + length))
    hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hidden, 0.5, images)


def _rotate(images: Tensor, degrees: float, random: torch.Generator) -> Tensor:
    """By so many degrees, clockwise or not; what comes into view is black."""
    sign = torch.where(torch.rand(len(images), generator=random) < 0.5, -1.0, 1.0)
    angle = sign * math.radians(degrees)
    height, width = images.shape[2:]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    return _warp(images, torch.stack(rows, 1).view(-1, 2, 3))


def _translate(images: Tensor, share: float, random: torch.Generator) -> Tensor:
    """By a share of the side in a random direction; what comes into view is black."""
    turn = 2 * math.pi * torch.rand(len(images), generator=random)
    one, zero = torch.ones_like(turn), torch.zeros_like(turn)
    rows = [one, zero, 2 * share * turn.cos(), zero, one, 2 * share * turn.sin()]
    return _warp(images, torch.stack(rows, 1).view(-1, 2, 3))


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float, float, float]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "shot_noise": (_shot_noise, (60.0, 25.0, 12.0, 5.0, 3.0)),
    "impulse_noise": (_impulse_noise, (0.01, 0.03, 0.06, 0.10, 0.17)),
    "blur": (_blur, (0.015, 0.025, 0.035, 0.05, 0.07)),
    "contrast": (_contrast, (0.7, 0.5, 0.35, 0.2, 0.1)),
    "brightness": (_brightness, (0.06, 0.12, 0.18, 0.24, 0.3)),
    "pixelate": (_pixelate, (0.85, 0.7, 0.55, 0.45, 0.35)),
    "occlusion": (_occlusion, (0.04, 0.08, 0.14, 0.20, 0.28)),
    "rotate": (_rotate, (5.0, 10.0, 15.0, 22.0, 30.0)),
    "translate": (_translate, (0.04, 0.08, 0.12, 0.17, 0.22)),
}
"""Name -> function and its five amounts: standard deviation, photons at full light, share of pixels, side lengths,
factor, light added, scale, share of the area, degrees, side lengths."""
