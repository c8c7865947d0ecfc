"""Tasks on several modalities: what a teacher says of a sample it sees only a part of is not asked for."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..signals import Batch, Signals
from .classification import Classification
from .regression import Regression


class _Multimodal(Classification):
    """Marks the rows of which the network saw every modality that it sees: ``extra["known"]``, as of a teacher that
    was asked about some samples only. Methods compare a teacher with the student on these rows."""

    def call(self, model: nn.Module, batch: Batch) -> Any:
        """Call a network on a batch of rows of modalities."""
        signals = super().signals(super().call(model, batch))
        whole = getattr(model, "whole", None)
        if whole is not None and not bool((known := whole(batch.inputs)).all()):
            signals.extra["known"] = known
        return signals

    def signals(self, output: Any) -> Signals:
        """What ``call`` gave, or a network's plain output."""
        return output if isinstance(output, Signals) else super().signals(output)


class MultimodalClassification(_Multimodal):
    """One label per sample; inputs are rows of ``Modalities``.

    Example:
        >>> MultimodalClassification(classes=3).metric
        'accuracy'
    """


class MultimodalRegression(_Multimodal, Regression):
    """D numbers per sample; inputs are rows of ``Modalities``."""


__all__ = ["MultimodalClassification", "MultimodalRegression"]
