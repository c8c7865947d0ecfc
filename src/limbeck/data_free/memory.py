"""Synthetic images that are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..shapes import Images, Labels


class ImageMemory:
    """The last ``capacity`` images with their labels, oldest first out; part of the checkpoint.

    Args:
        capacity: images.

    Example:
        >>> memory = ImageMemory(2)
        >>> memory.add(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2]))
        >>> len(memory), memory.labels.tolist()
        (2, [1, 2])
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.images, self.labels = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, images: Images, labels: Labels) -> None:
        """Remember a batch."""
        images, labels = images.detach().float().cpu().contiguous(), labels.cpu()
        joined = torch.cat([self.images, images]) if len(self) else images
        self.images = joined[-self.capacity :]
        self.labels = torch.cat([self.labels, labels])[-self.capacity :]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and labels of ``count`` draws without replacement, or with it where fewer are kept."""
        if count <= len(self):
            ids = torch.randperm(len(self), generator=generator)[:count]
        else:
            ids = torch.randint(len(self), (count,), generator=generator)
        return self.images[ids], self.labels[ids]

    def state_dict(self) -> dict[str, Any]:
        """The images and labels."""
        return {"images": self.images, "labels": self.labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.images, self.labels = state["images"], state["labels"]
