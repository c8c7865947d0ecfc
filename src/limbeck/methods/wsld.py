"""Weighted soft labels."""

from __future__ import annotations

from pydantic import Field

from ..losses import wsld
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels


class WSLD(Method):
    """``CE + 2.25 WSLD``: soft cross-entropy, less for samples that the student fits better than the teacher.

    The weight 2.25 and T = 4 are those of cls_KD on CIFAR-100; on ImageNet the authors take 2.5 and T = 2.

    Example:
        >>> WSLD().options
        Options(temperature=4.0)
    """

    name = "wsld"
    paper = "Zhou et al., ICLR 2021, arXiv:2102.00650"
    status = "verified"
    weight = 2.25

    class Options(Method.Options):
        """Options of ``limbeck.losses.wsld``."""

        temperature: float = Field(4.0, gt=0, description="divides the logits")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        logits = self.taught(teacher).logits
        value = over_labels(
            batch,
            lambda labels, reduction: wsld(
                student.logits, logits, labels, temperature=self.options.temperature, reduction=reduction
            ),
        )
        return {self.name: Term(value)}
