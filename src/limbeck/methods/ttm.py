"""Transformed teacher matching, plain and weighted."""

from __future__ import annotations

from pydantic import Field

from ..losses import ttm, wttm
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class TTM(Method):
    """``CE + 45 TTM``: a temperature for the teacher, none for the student.

    The weight is that of the authors' example (vgg13 to vgg8, exponent 0.1); they tune it for each pair.

    Example:
        >>> TTM().options
        Options(exponent=0.1)
    """

    name = "ttm"
    paper = "Zheng, Yang, ICLR 2024, arXiv:2402.11148"
    status = "verified"
    weight = 45.0

    class Options(Method.Options):
        """Options of ``limbeck.losses.ttm``."""

        exponent: float = Field(0.1, gt=0, description="power of the teacher's probabilities")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        logits = self.taught(teacher).logits
        return {self.name: Term(ttm(student.logits, logits, exponent=self.options.exponent))}


class WTTM(Method):
    """``CE + 4 WTTM``: TTM with more weight on samples that the teacher is unsure of.

    The weight is that of the authors' example (vgg13 to vgg8 beside CRD, exponent 0.2); they tune it for each
    pair.

    Example:
        >>> WTTM().options
        Options(exponent=0.2)
    """

    name = "wttm"
    paper = "Zheng, Yang, ICLR 2024, arXiv:2402.11148"
    status = "verified"
    weight = 4.0

    class Options(Method.Options):
        """Options of ``limbeck.losses.wttm``."""

        exponent: float = Field(0.2, gt=0, description="power of the teacher's probabilities")

    options: Options

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        logits = self.taught(teacher).logits
        return {self.name: Term(wttm(student.logits, logits, exponent=self.options.exponent))}
