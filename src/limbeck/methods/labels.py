"""How methods that look at labels read a batch, mixed or not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..losses._common import Reduction
from ..shapes import IGNORE
from ..signals import Batch


def over_labels(batch: Batch, loss: Callable[[Tensor, Reduction], Tensor]) -> Tensor:
    """Mean of a loss over labelled rows; with mixup or cutmix, over both labels in their shares.

    Args:
        batch: the batch, labels ``(N,)``.
        loss: called with labels ``(N,)`` and a reduction.

    Returns:
        A scalar.
    """
    if batch.mixing is None or batch.mixed_labels is None:
        return loss(batch.labels, "mean")
    first, second = loss(batch.labels, "none"), loss(batch.mixed_labels, "none")
    total = (batch.mixing * first + (1 - batch.mixing) * second).sum()
    return total / (batch.labels != IGNORE).sum().clamp(min=1)


def main_labels(batch: Batch) -> Tensor:
    """The label ``(N,)`` with the larger share of each sample."""
    if batch.mixing is None or batch.mixed_labels is None:
        return batch.labels
    return torch.where(batch.mixing >= 0.5, batch.labels, batch.mixed_labels)


def warmed(batch: Batch, epochs: int) -> float:
    """Share of its weight that a method has in this epoch: ``min((epoch + 1) / epochs, 1)``; 1 without warm-up."""
    return min((batch.epoch + 1) / epochs, 1.0) if epochs else 1.0
