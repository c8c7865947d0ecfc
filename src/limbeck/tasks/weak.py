"""Segmentation from image-level labels: the network is told which classes are in an image, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, ModelError
from ..models.asdt import Dual
from ..shapes import IGNORE
from ..signals import Batch, Signals
from .segmentation import PixelBatch, Segmentation


@dataclass(slots=True)
class WeakBatch(PixelBatch):
    """A batch whose pixels have no labels.

    Attributes:
        present: which classes are in each image ``(B, K)``, of 0 and 1.
    """

    present: Tensor | None = None


class WeakSegmentation(Segmentation):
    """Learn which classes are in an image; be measured by masks that training never sees.

    The network gives a ``Dual``. Its prediction is the fusion of both heads: per class the larger of their
    probabilities, which are not made to sum to 1 again (``extra["dual"]`` holds the parts). The task's loss is
    the multi-label soft margin of the classification branch, mean over images and classes without background.

    Example:
        >>> maps, cams = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, 2)
        >>> task = WeakSegmentation(classes=3, size=(4, 4))
        >>> signals = task.signals(Dual(maps, maps, cams, torch.zeros(1, 2)))
        >>> rows = task.rows(Batch(torch.zeros(1, 3, 4, 4), torch.tensor([[1, 0, 1]]), torch.arange(1)))
        >>> round(float(task.loss(signals, rows)), 4), tuple(rows.labels.shape), tuple(signals.logits.shape)
        (0.6931, (16,), (16, 3))
    """

    def signals(self, output: Any) -> Signals:
        """Fused maps as rows of pixels.

        Raises:
            ModelError: the network has no classification branch.
        """
        if not isinstance(output, Dual):
            raise ModelError(
                "image-level labels need a network with a classification branch and mask heads",
                got=type(output).__name__,
                expected="a Dual, as the network asdt gives",
                fix="set student.name=asdt; masks are learned with data.weak=false",
            )
        full = self.fused(output)
        return Signals(self.pixels(full), extra={"maps": output.student, "full": full, "dual": output})

    def fused(self, output: Dual) -> Tensor:
        """Logarithm of the larger of both heads' probabilities, at the masks' size ``(B, K, H, W)``."""
        heads = [self.full(maps).log_softmax(1) for maps in (output.teacher, output.student)]
        return torch.maximum(*heads)

    def rows(self, batch: Batch) -> Batch:
        """The batch as rows of pixels; they have labels only where it holds masks, in evaluation."""
        if batch.labels.dim() == 3:
            return Segmentation.rows(self, batch)
        height, width = (-(-edge // self.stride) for edge in self.size)
        ids = batch.ids.repeat_interleave(height * width)
        none = torch.full_like(ids, IGNORE)
        return WeakBatch(batch.inputs, none, ids, batch.epoch, present=batch.labels)

    def loss(self, signals: Signals, batch: Batch) -> Tensor:
        """Multi-label soft margin in nats.

        Raises:
            ConfigError: the batch holds masks.
        """
        scores = signals.extra["dual"].scores
        if not isinstance(batch, WeakBatch) or batch.present is None:
            raise ConfigError("a run from image-level labels was offered masks", fix="set data.weak=false")
        return F.multilabel_soft_margin_loss(scores.float(), batch.present[:, 1:].float())
