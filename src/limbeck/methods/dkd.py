"""Decoupled knowledge distillation."""

from __future__ import annotations

from pydantic import Field

from ..losses import dkd
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels, warmed


class DKD(Method):
    """``CE + min((epoch + 1) / warmup, 1) (alpha TCKD + beta NCKD)``.

    The published beta differs by pair of networks: 2 for resnet56 to 20 and 110 to 32, 6 for the VGG and most
    wide-ResNet pairs, 8 for the others. The published warm-up is 20 of 240 epochs: shorten it in short runs.
    With mixed labels, both count in their shares.

    Example:
        >>> DKD(beta=2.0).options.beta
        2.0
    """

    name = "dkd"
    paper = "Zhao et al., CVPR 2022, arXiv:2203.08679"
    status = "verified"

    class Options(Method.Options):
        """Options of ``limbeck.losses.dkd``, and the warm-up."""

        alpha: float = Field(1.0, ge=0, description="weight of target against the rest")
        beta: float = Field(8.0, ge=0, description="weight of the rest among themselves")
        temperature: float = Field(4.0, gt=0, description="divides the logits")
        warmup: int = Field(20, ge=0, description="epochs over which the weight grows to 1; 0: none")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, logits = self.options, self.taught(teacher).logits
        value = over_labels(
            batch,
            lambda labels, reduction: dkd(
                student.logits,
                logits,
                labels,
                alpha=o.alpha,
                beta=o.beta,
                temperature=o.temperature,
                reduction=reduction,
            ),
        )
        return {self.name: Term(value, warmed(batch, o.warmup))}
