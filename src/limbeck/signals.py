"""What travels through the house: a batch, and what a network said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .reading import Reading
from .shapes import Logits


@dataclass(slots=True)
class Batch:
    """One batch of samples, already augmented and on the device.

    Attributes:
        inputs: what the network is called with, ``(B, ...)``.
        labels: class ids ``(B,)`` (or ``(B, H, W)``, ``(B, L)`` where a task says so); -100 is unlabelled.
        ids: ``(B,)`` position of each sample in its split, so that a view can be found again.
        epoch: the epoch whose augmentation made this view.
        mixed_labels: second labels ``(B,)`` of mixup and cutmix, or None.
        mixing: weight in [0, 1] of ``labels`` against ``mixed_labels`` per sample ``(B,)``, or None.
        items: what a mean over rows divides by where samples hold unlike numbers of them, so that accumulated
            pieces and processes add up to the mean over all; None is the number of rows at hand.
        sampled: whether a model wrote the labels, which then are no truth to learn from.
        reading: the same samples as a teacher with another tokenizer reads them, or None.
        positions: of tokens within their sample ``(B, L)`` where several samples share a row, or None.
    """

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    epoch: int = 0
    mixed_labels: Tensor | None = None
    mixing: Tensor | None = None
    items: float | None = None
    sampled: bool = False
    reading: Reading | None = None
    positions: Tensor | None = None

    @property
    def samples(self) -> int:
        """How many samples there are; rows may hold several."""
        return len(self) if self.positions is None else int((self.positions == 0).sum())

    def to(self, device: torch.device | str, memory_format: torch.memory_format | None = None) -> Batch:
        """Move the batch to a device, images optionally to another memory format."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device, non_blocking=True)

        inputs = self.inputs.to(device, non_blocking=True)
        if memory_format is not None and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=memory_format)
        return Batch(
            inputs,
            self.labels.to(device, non_blocking=True),
            self.ids.to(device, non_blocking=True),
            self.epoch,
            move(self.mixed_labels),
            move(self.mixing),
            self.items,
            self.sampled,
            None if self.reading is None else self.reading.to(device),
            move(self.positions),
        )

    def rows(self, rows: Tensor) -> Batch:
        """The batch of these rows only, by position or mask."""

        def take(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[rows]

        ids = self.ids[rows]
        return Batch(
            self.inputs[rows],
            self.labels[rows],
            ids,
            self.epoch,
            take(self.mixed_labels),
            take(self.mixing),
            None if self.items is None else self.items * len(ids) / len(self),
            self.sampled,
            None if self.reading is None else self.reading.rows(rows),
            take(self.positions),
        )

    def __len__(self) -> int:
        return int(self.ids.shape[0])


@dataclass(slots=True)
class Signals:
    """What one network said about one batch. Holds tensors, never a model.

    Attributes:
        logits: ``(N, C)``, one row per supervised unit (image, pixel or token).
        features: tapped feature maps by layer name.
        extra: what a task or a teacher adds (embedding, hidden states, class-probability samples).
    """

    logits: Logits
    features: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


__all__ = ["Batch", "Signals"]
