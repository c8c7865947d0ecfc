"""Segmentation: N rows are N pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, ModelError
from ..shapes import IGNORE
from ..signals import Batch, Signals
from .classification import Classification


@dataclass(slots=True)
class PixelBatch(Batch):
    """A batch as rows of pixels.

    Attributes:
        masks: the labels as they lie on the images ``(B, H, W)``.
    """

    masks: Tensor | None = None


class Segmentation(Classification):
    """One label per pixel; the measure of good is the mean intersection over union (mIoU).

    A network gives score maps ``(B, K, h, w)`` of any resolution: a tensor, an object whose ``.logits`` is one,
    or a mapping with ``"out"``. They are scaled up to the masks bilinearly, and every pixel is a row, so that
    methods which compare logits work as on images. ``extra["maps"]`` holds the scores as the network gave
    them, ``extra["full"]`` at the masks' size ``(B, K, H, W)``. Pixels labelled -100 are not learned from, but
    a teacher's answer about them is.

    Args:
        classes: number of classes K, the background among them.
        size: height and width of the masks.
        stride: methods compare every ``stride``-th pixel in both directions (labels are learned from all), for
            losses whose cost grows with the square of the rows.

    Example:
        >>> import torch
        >>> task = Segmentation(classes=3, size=(8, 8), stride=2)
        >>> batch = Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8).long(), torch.arange(2))
        >>> signals = task.signals(torch.zeros(2, 3, 4, 4))
        >>> tuple(signals.logits.shape), tuple(task.rows(batch).labels.shape)
        ((32, 3), (32,))
        >>> round(float(task.loss(signals, task.rows(batch))), 4)
        1.0986
    """

    name = "segmentation"
    metric = "miou"
    gives = frozenset({"maps"})

    def __init__(self, classes: int, size: tuple[int, int], stride: int = 1) -> None:
        super().__init__(classes)
        if not 1 <= stride <= min(size):
            raise ConfigError("data.stride skips all pixels", got=stride, expected=f"1 to {min(size)}")
        self.size, self.stride = size, stride

    def signals(self, output: Any) -> Signals:
        """Score maps as rows of pixels, image by image, row by row.

        Raises:
            ModelError: the output holds no score maps of all classes.
        """
        maps = maps_of(output)
        full = self.full(maps)
        return Signals(self.pixels(full), extra={"maps": maps, "full": full})

    def full(self, maps: Tensor) -> Tensor:
        """Maps ``(B, C, h, w)`` at the masks' size, in float32 at least."""
        maps = maps.float() if maps.dtype.itemsize < 4 else maps
        if maps.shape[-2:] == self.size:
            return maps
        return F.interpolate(maps, self.size, mode="bilinear", align_corners=False)

    def pixels(self, full: Tensor) -> Tensor:
        """Rows ``(N, C)`` of maps ``(B, C, H, W)``, every ``stride``-th pixel."""
        step = self.stride
        return full[:, :, ::step, ::step].permute(0, 2, 3, 1).flatten(0, 2)

    def rows(self, batch: Batch) -> Batch:
        """The batch with one row for each pixel that methods compare."""
        masks, step = batch.labels, self.stride
        labels = masks[:, ::step, ::step].flatten()
        ids = batch.ids.repeat_interleave(labels.numel() // max(len(batch), 1))
        return PixelBatch(batch.inputs, labels, ids, batch.epoch, masks=masks)

    def loss(self, signals: Signals, batch: Batch) -> Tensor:
        """Cross-entropy in nats, mean over the labelled pixels of the full masks."""
        masks = batch.masks if isinstance(batch, PixelBatch) and batch.masks is not None else batch.labels
        total = F.cross_entropy(signals.extra["full"], masks, ignore_index=IGNORE, reduction="sum")
        return total / (masks != IGNORE).sum().clamp(min=1)

    def metrics(
        self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
    ) -> dict[str, float]:
        """The numbers of this task from whole rows; a run sums them up batch by batch instead."""
        from ..evaluation.segmentation import Confusion

        seen = Confusion(self.classes)
        seen.add(logits, labels, teacher_logits)
        return seen.metrics()


def maps_of(output: Any) -> Tensor:
    """The score maps ``(B, K, h, w)`` in a network's output.

    Raises:
        ModelError: there are none.
    """
    maps = output
    if isinstance(output, Mapping):
        maps = output.get("out", output.get("logits"))
    elif not isinstance(output, Tensor):
        maps = getattr(output, "logits", None)
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(output).__name__
        raise ModelError(
            "the network does not return score maps",
            got=got,
            expected='a tensor (N, classes, height, width), or an output with .logits or ["out"]',
            fix="take a segmentation network, such as fcn",
        )
    return maps
