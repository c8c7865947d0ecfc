"""Teacher-free knowledge distillation by a virtual teacher."""

from __future__ import annotations

from pydantic import Field

from ..losses import tf_kd
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels


class TfKD(Method):
    """``0.9 CE + 0.1 Tf-KD reg``: a virtual teacher that is right with a fixed confidence.

    The paper's other form, self-training, is ``kd`` with a teacher from an earlier run of the same network.

    Example:
        >>> TfKD().needs
        frozenset()
    """

    name = "tf_kd"
    paper = "Yuan et al., CVPR 2020, arXiv:1909.11723"
    status = "transcribed"
    needs = frozenset()
    label_weight = 0.9
    weight = 0.1

    class Options(Method.Options):
        """Options of ``limbeck.losses.tf_kd``."""

        temperature: float = Field(20.0, gt=0, description="softens the virtual teacher")
        confidence: float = Field(0.99, gt=0, le=1, description="the virtual teacher's trust in the label")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        value = over_labels(
            batch,
            lambda labels, reduction: tf_kd(
                student.logits,
                labels,
                temperature=o.temperature,
                confidence=o.confidence,
                reduction=reduction,
            ),
        )
        return {self.name: Term(value)}
