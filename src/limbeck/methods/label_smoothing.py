"""Label smoothing, the control without a teacher."""

from __future__ import annotations

from pydantic import Field

from ..losses import label_smoothing
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels


class LabelSmoothing(Method):
    """Cross-entropy against smoothed labels, in place of the plain one (whose weight is 0).

    Example:
        >>> LabelSmoothing().needs
        frozenset()
    """

    name = "label_smoothing"
    paper = "Szegedy et al., CVPR 2016, arXiv:1512.00567"
    status = "control"
    needs = frozenset()
    label_weight = 0.0

    class Options(Method.Options):
        """Options of ``limbeck.losses.label_smoothing``."""

        smoothing: float = Field(0.1, ge=0, le=1, description="share of the uniform distribution")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        value = over_labels(
            batch,
            lambda labels, reduction: label_smoothing(
                student.logits, labels, smoothing=self.options.smoothing, reduction=reduction
            ),
        )
        return {self.name: Term(value)}
