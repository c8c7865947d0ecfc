"""Strong views: random operations on a batch of images, the same for the same (seed, epoch, sample id)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..shapes import Images
from .streams import generator

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


class StrongViews:
    """Applies a few random operations to each image of a batch, in the manner of RandAugment.

    What happens to a sample in an epoch depends on seed, epoch and id alone, whatever the batch or the rank.

    Args:
        count: number of sample ids.
        mean: of the normalisation that images come with, per channel.
        std: of the normalisation.
        seed: any integer.
        operations: how many are applied to each image, drawn with replacement.
        magnitude: their strength, 0 to 30.

    Source:
        Cubuk et al. 2019, arXiv:1909.13719, on tensors of pixels in [0, 1]; without "equalize". What is moved
        in from outside is black. Deviation: ranges are those of torchvision.

    Example:
        >>> strong = StrongViews(4, (0.5,), (0.25,), seed=0)
        >>> images = torch.rand(4, 1, 8, 8)
        >>> both, one = strong(images, torch.arange(4), 3), strong(images[2:3], torch.tensor([2]), 3)
        >>> torch.allclose(both[2], one[0])
        True
    """

    def __init__(
        self,
        count: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        seed: int,
        operations: int = 2,
        magnitude: float = 10.0,
    ) -> None:
        self.count, self.seed, self.operations, self.strength = count, seed, operations, magnitude / 30
        self.mean, self.std = (torch.tensor(x, dtype=torch.float32)[:, None, None] for x in (mean, std))
        self._plan: tuple[int, Tensor] | None = None

    def __call__(self, images: Images, ids: Tensor, epoch: int) -> Images:
        """Strong views of normalised images.

        Args:
            images: ``(B, C, H, W)``, normalised; not changed.
            ids: of the samples ``(B,)``.
            epoch: counted from 0.
        """
        mean, std = self.mean.to(images), self.std.to(images)
        pixels = (images * std).add_(mean).clamp_(0, 1)
        plan = self._draw(epoch)[ids.cpu()]
        names = list(OPERATIONS)
        for column in range(self.operations):
            chosen, place = plan[:, 4 * column], plan[:, 4 * column + 1 : 4 * column + 4]
            for number, name in enumerate(names):
                rows = ((chosen * len(names)).long() == number).nonzero().squeeze(1)
                if len(rows):
                    some = rows.to(images.device)
                    draws = place[rows].to(images)
                    level = self.strength * torch.where(draws[:, 0] < 0.5, -1.0, 1.0)
                    pixels[some] = OPERATIONS[name](pixels[some], level, draws[:, 1:])
        return pixels.sub_(mean).div_(std)

    def _draw(self, epoch: int) -> Tensor:
        """Uniform draws of an epoch, four per operation for every id."""
        if self._plan is None or self._plan[0] != epoch:
            draws = generator("strong", self.seed, epoch).random((self.count, 4 * self.operations))
            self._plan = (epoch, torch.from_numpy(draws).float())
        return self._plan[1]


def _moved(x: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Resample under affine maps, given as two rows of three numbers per image in units of half a side."""
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _affine(make: Callable[[Tensor, Tensor, Tensor], list[list[Tensor]]]) -> Operation:
    def operation(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
        return _moved(x, make(level, torch.zeros_like(level), torch.ones_like(level)))

    return operation


def _rotation(level: Tensor, zero: Tensor, one: Tensor) -> list[list[Tensor]]:
    cos, sin = torch.cos(level * math.pi / 6), torch.sin(level * math.pi / 6)
    return [[cos, -sin, zero], [sin, cos, zero]]


def _blend(other: Callable[[Tensor], Tensor]) -> Operation:
    """Away from, or towards, a poorer version of the image: by at most 0.9."""

    def operation(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
        factor = (1 + 0.9 * level)[:, None, None, None]
        poor = other(x)
        return (poor + factor * (x - poor)).clamp_(0, 1)

    return operation


def _grey(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def _blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _stretched(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def _posterised(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
    steps = 2 ** (8 - (4 * level.abs()).round())[:, None, None, None]
    return (x * 255 / 256 * steps).floor() / (steps - 1)


def _solarised(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
    threshold = 1 - level.abs()[:, None, None, None]
    return torch.where(x >= threshold, 1 - x, x)


def _cut(x: Tensor, level: Tensor, draws: Tensor) -> Tensor:
    """A black square of side |level| around a random point."""
    half = level.abs()[:, None] / 2
    inside = []
    for side, centre in zip(x.shape[2:], draws.T, strict=True):
        at = (torch.arange(side, device=x.device) + 0.5) / side
        inside.append((at - centre[:, None]).abs() < half)
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


OPERATIONS: dict[str, Operation] = {
    "rotate": _affine(_rotation),
    "shear_x": _affine(lambda level, zero, one: [[one, 0.3 * level, zero], [zero, one, zero]]),
    "shear_y": _affine(lambda level, zero, one: [[one, zero, zero], [0.3 * level, one, zero]]),
    "translate_x": _affine(lambda level, zero, one: [[one, zero, 0.9 * level], [zero, one, zero]]),
    "translate_y": _affine(lambda level, zero, one: [[one, zero, zero], [zero, one, 0.9 * level]]),
    "brightness": _blend(torch.zeros_like),
    "contrast": _blend(lambda x: x.mean((1, 2, 3), keepdim=True)),
    "colour": _blend(_grey),
    "sharpness": _blend(_blurred),
    "autocontrast": _stretched,
    "invert": lambda x, level, draws: 1 - x,
    "posterise": _posterised,
    "solarise": _solarised,
    "cutout": _cut,
}
"""Name -> operation on images ``(b, C, H, W)``, signed levels ``(b,)`` and two further draws ``(b, 2)``."""
