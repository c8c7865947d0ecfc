"""Output distillation for regression: agree with the teacher's numbers."""

from __future__ import annotations

from typing import ClassVar

from ..losses import ccc
from ..signals import Batch, Signals
from .base import Method, Status, Term, Terms


class CCCKD(Method):
    """``1 - CCC`` to the labels and to the teacher's predictions.

    A squared error to the teacher would shrink the student's variance, which CCC punishes.

    Example:
        >>> CCCKD().label_weight
        1.0
    """

    name = "ccc_kd"
    paper = "Lin, Biometrics 1989, as a distance to the teacher"
    status: ClassVar[Status] = "control"
    continuous = True
    across_batch = True

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return {self.name: Term(ccc(student.logits, self.taught(teacher).logits))}
