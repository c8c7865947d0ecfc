"""Normalised knowledge distillation."""

from __future__ import annotations

from pydantic import Field

from ..losses import nkd
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels


class NKD(Method):
    """``CE + NKD``: the teacher's trust in the label, and gamma times the normalised rest.

    With mixed labels, both count in their shares; the released code takes the larger one.

    Example:
        >>> NKD().options
        Options(gamma=3.5, temperature=3.0)
    """

    name = "nkd"
    paper = "Yang et al., ICCV 2023, arXiv:2303.13005"
    status = "verified"

    class Options(Method.Options):
        """Options of ``limbeck.losses.nkd``."""

        gamma: float = Field(3.5, ge=0, description="weight of the rest among themselves")
        temperature: float = Field(3.0, gt=0, description="divides the logits of the rest")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, logits = self.options, self.taught(teacher).logits
        value = over_labels(
            batch,
            lambda labels, reduction: nkd(
                student.logits,
                logits,
                labels,
                gamma=o.gamma,
                temperature=o.temperature,
                reduction=reduction,
            ),
        )
        return {self.name: Term(value)}
