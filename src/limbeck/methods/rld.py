"""Refined logits."""

from __future__ import annotations

from pydantic import Field

from ..losses import rld
from ..signals import Batch, Signals
from .base import Method, Term, Terms
from .labels import over_labels, warmed


class RLD(Method):
    """``CE + min((epoch + 1) / warmup, 1) RLD``: the teacher without what contradicts the label.

    The published warm-up is 20 of 240 epochs: shorten it in short runs. With mixed labels, both count in
    their shares.

    Example:
        >>> RLD(warmup=0).options.beta
        8.0
    """

    name = "rld"
    paper = "Sun et al., ICCV 2025, arXiv:2408.07703"
    status = "verified"

    class Options(Method.Options):
        """Options of ``limbeck.losses.rld``, and the warm-up."""

        alpha: float = Field(1.0, ge=0, description="weight of the label's confidence")
        beta: float = Field(8.0, ge=0, description="weight of the classes below the label")
        temperature: float = Field(4.0, gt=0, description="divides the logits of the classes below the label")
        alpha_temperature: float = Field(1.0, gt=0, description="divides the logits of the first part")
        warmup: int = Field(20, ge=0, description="epochs over which the weight grows to 1; 0: none")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o, logits = self.options, self.taught(teacher).logits
        value = over_labels(
            batch,
            lambda labels, reduction: rld(
                student.logits,
                logits,
                labels,
                alpha=o.alpha,
                beta=o.beta,
                temperature=o.temperature,
                alpha_temperature=o.alpha_temperature,
                reduction=reduction,
            ),
        )
        return {self.name: Term(value, warmed(batch, o.warmup))}
