"""Regression: N rows of D numbers."""

from __future__ import annotations

from torch import Tensor

from ..losses import ccc
from ..signals import Batch, Signals
from .classification import Classification


class Regression(Classification):
    """D numbers per sample; the measure of good is their mean concordance correlation (CCC).

    Labels are ``(N, D)``; a row with a NaN has none.

    Args:
        classes: how many numbers.
        names: what they are called, for the metrics.
        unbiased: of the loss, ``limbeck.losses.ccc``.

    Example:
        >>> import torch
        >>> task = Regression(classes=1)
        >>> y = torch.tensor([[0.0], [1.0], [float("nan")]])
        >>> float(task.loss(Signals(torch.tensor([[0.0], [1.0], [9.0]])), Batch(y, y, torch.arange(3)))) < 1e-6
        True
    """

    name = "regression"
    metric = "ccc"
    loss_name = "ccc"

    def __init__(self, classes: int, names: tuple[str, ...] = (), unbiased: bool = False) -> None:
        super().__init__(classes)
        self.names, self.unbiased = names, unbiased

    def loss(self, signals: Signals, batch: Batch) -> Tensor:
        """``1 - CCC`` over the rows that have labels; 0 connected to the graph with fewer than two."""
        return ccc(signals.logits, batch.labels, unbiased=self.unbiased)

    def above_chance(self, logits: Tensor, labels: Tensor) -> tuple[bool | None, str]:
        """Whether the mean CCC is above 0.1; a constant has 0."""
        if len(logits) < 30:
            return None, f"not checked: {len(logits)} held-out samples are too few"
        found = 1 - float(ccc(logits.float(), labels))
        return found > 0.1, f"mean CCC {found:.3f} on held-out samples, a constant has 0"

    def metrics(
        self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None
    ) -> dict[str, float]:
        """Mean CCC, Pearson correlation and root mean squared error, and the CCC of each output."""
        from ..evaluation.regression import regression_metrics

        return regression_metrics(logits, labels, teacher_logits, self.names)


__all__ = ["Regression"]
