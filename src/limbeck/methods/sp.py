"""SP: similarity-preserving distillation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..losses import sp
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Status, Term, Terms
from .layers import FeatureMethod


class SP(FeatureMethod):
    """``CE + 3000 SP`` on the last stage, the published weight for CIFAR.

    A network without stages is compared by its embedding. Layers named by hand are all compared, and their
    terms added up.

    Example:
        >>> SP(student_layers=["layer3"]).options.student_layers
        ('layer3',)
    """

    name = "sp"
    paper = "Tung, Mori, ICCV 2019, arXiv:1907.09682"
    continuous = True
    status: ClassVar[Status] = "verified"
    weight = 3000.0
    across_batch = True

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.deepest(student, teacher))

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return sp(student, teacher)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        values = [self.loss(s, t) for s, t in self.features(student, teacher)]
        return {self.name: Term(sum(values[1:], values[0]))}
