"""Classification: N rows are N images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..shapes import IGNORE
from ..signals import Batch, Signals


class Classification:
    """One label per sample; the measure of good is accuracy.

    Args:
        classes: number of classes K.

    Example:
        >>> import torch
        >>> task = Classification(classes=3)
        >>> batch = Batch(torch.zeros(2, 4), torch.tensor([0, -100]), torch.arange(2))
        >>> round(float(task.loss(Signals(torch.zeros(2, 3)), batch)), 4)
        1.0986
    """

    name = "classification"
    metric = "accuracy"
    higher_is_better = True
    loss_name = "cross_entropy"
    gives: frozenset[str] = frozenset()
    """Capabilities of a teacher of this task, beside those of every teacher."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def call(self, model: nn.Module, batch: Batch) -> Any:
        """Call a network on a batch.

        Raises:
            ModelError: the network cannot take these inputs.
        """
        try:
            return model(batch.inputs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"the network {type(model).__name__} fails on inputs of shape {tuple(batch.inputs.shape)}",
                got=f"{type(error).__name__}: {error}",
                fix="check the network against the data's channels and size",
            ) from error

    def signals(self, output: Any) -> Signals:
        """Turn a network's output into signals with logits ``(N, K)``.

        Raises:
            ModelError: the output holds no two-dimensional logits.
        """
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if logits is None or logits.dim() != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise ModelError(
                "the network does not return class scores",
                got=got,
                expected="a tensor (N, classes), or an object whose .logits is one",
                fix="return the logits from forward",
            )
        return Signals(logits=logits)

    def rows(self, batch: Batch) -> Batch:
        """The batch with labels flattened to ``(N,)``; for images it is the batch itself."""
        return batch

    def loss(self, signals: Signals, batch: Batch) -> Tensor:
        """Cross-entropy in nats, mean over labelled rows; 0 connected to the graph when none is labelled.

        With mixup or cutmix, ``mixing * CE(labels) + (1 - mixing) * CE(mixed_labels)``.
        """
        logits = signals.logits.float() if signals.logits.dtype.itemsize < 4 else signals.logits
        if batch.mixing is None or batch.mixed_labels is None:
            total = F.cross_entropy(logits, batch.labels, ignore_index=IGNORE, reduction="sum")
        else:
            first, second = (
                F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
                for labels in (batch.labels, batch.mixed_labels)
            )
            total = (batch.mixing * first + (1 - batch.mixing) * second).sum()
        return total / (batch.labels != IGNORE).sum().clamp(min=1)

    def above_chance(self, logits: Tensor, labels: Tensor) -> tuple[bool | None, str]:
        """Whether a network is better than one that knows nothing, and what was found; None: it cannot be told."""
        right = int((logits.argmax(1) == labels).sum())
        seen, chance = len(labels), 1 / self.classes
        spread = 2 * math.sqrt(chance * (1 - chance) / seen)
        bound = chance + max(
            spread, min(chance, 0.1 * (1 - chance))
        )  # an untrained network's hits go together
        if bound >= 1:
            return None, f"not checked: {seen} held-out samples are too few"
        return right / seen > bound, f"{right}/{seen} right on held-out samples, chance is {chance:.1%}"

    def metrics(
        self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
    ) -> dict[str, float]:
        """The numbers of this task; see ``limbeck.evaluation.metrics``."""
        from ..evaluation.metrics import classification_metrics

        return classification_metrics(logits, labels, teacher_logits)
