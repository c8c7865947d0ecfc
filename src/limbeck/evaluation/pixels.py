"""A classifier as a function of pixels: what evaluators that change images ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..signals import Batch
from ..tasks import Classification

if TYPE_CHECKING:
    from ..data import Split

CHUNK = 256
"""Images that are looked at together; part of what a seed decides."""


class PixelModel:
    """A network with its normalisation in front, in float32.

    Args:
        model: the network, called with normalised images.
        mean, std: its normalisation per channel.
        classes: K.

    Example:
        >>> seen = PixelModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (0.5,), (0.5,), classes=3)
        >>> seen(torch.rand(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], classes: int
    ) -> None:
        self.model, self.task = model, Classification(classes)
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.mean, self.std = (
            torch.tensor(v, device=self.device, dtype=torch.float32)[:, None, None] for v in (mean, std)
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, c, h, w)`` in [0, 1]; differentiable."""
        inputs = (images.to(self.device) - self.mean) / self.std
        rows = torch.arange(len(images))
        output = self.task.call(self.model, Batch(inputs, torch.zeros_like(rows), rows))
        return self.task.signals(output).logits.to(images.device, torch.float32)

    @torch.no_grad()
    def right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images are given their label ``(B,)``."""
        return self(images).argmax(dim=1) == labels


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every submodule's own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def chunks(split: Split, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in [0, 1] and labels of the ids, some at a time.

    Raises:
        DataError: pixels outside [0, 1].
    """
    for part in torch.split(ids, CHUNK):
        images, labels = split.fetch(part)
        low, high = float(images.min()), float(images.max())
        if low < 0 or high > 1:
            raise DataError(
                f"the images of the {split.name} split are not pixels",
                got=f"values from {low:.3g} to {high:.3g}",
                expected="0 to 1 (8-bit images are scaled to it)",
                fix="give images that are not normalised yet, with mean and std beside them",
            )
        yield images, labels
