"""Generated images per class through training, for the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

PER_CLASS = 4
CLASSES = 20
"""At most so many classes are pictured, the first ones."""


class Pictures:
    """Snapshots of images by class: before training, after an eighth, a quarter and a half of it, and at the end.

    Args:
        steps: of the whole run.
        mean, std: of the normalisation, to get pixels back.

    Attributes:
        kept: step -> images ``(K, 4, C, H, W)`` uint8.
    """

    def __init__(self, steps: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.moments = {0, steps // 8, steps // 4, steps // 2}
        self.last = steps
        self.mean, self.std = torch.tensor(mean).view(1, 1, -1, 1, 1), torch.tensor(std).view(1, 1, -1, 1, 1)
        self.kept: dict[int, Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether a snapshot belongs to this step."""
        return step in self.moments and step not in self.kept

    def keep(self, step: int, images: Tensor) -> None:
        """Remember a snapshot of normalised images ``(K, n, C, H, W)``; NaN is an image that is missing."""
        pixels = images.float().cpu() * self.std + self.mean
        self.kept[step] = (pixels.nan_to_num(1.0).clamp(0, 1) * 255).round().to(torch.uint8)

    def arrays(self, last: Tensor | None) -> dict[str, Any]:
        """``steps`` ``(S,)`` and ``images`` ``(S, K, n, C, H, W)`` for the record."""
        if last is not None:
            self.keep(self.last, last)
        steps = sorted(self.kept)
        images = torch.stack([self.kept[s] for s in steps]).numpy() if steps else np.zeros(0, np.uint8)
        return {"steps": np.array(steps, dtype=np.int64), "images": images}

    def state_dict(self) -> dict[str, Any]:
        """The snapshots so far."""
        return {str(step): images for step, images in self.kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.kept = {int(step): images for step, images in state.items()}


def by_class(images: Tensor, labels: Tensor, classes: int, count: int = PER_CLASS) -> Tensor:
    """The last ``count`` images of each of the first classes ``(K, count, C, H, W)``, NaN where there are fewer.

    Example:
        >>> by_class(torch.ones(2, 1, 1, 1), torch.tensor([1, 1]), 2, count=1).flatten()
        tensor([nan, 1.])
    """
    found = torch.full((min(classes, CLASSES), count, *images.shape[1:]), torch.nan)
    for k in range(len(found)):
        mine = images[labels == k][-count:].float().cpu()
        found[k, : len(mine)] = mine
    return found
