"""CKA: representations alike up to rotation, scale and shift."""

from __future__ import annotations

from torch import Tensor

from ..losses import cka
from .sp import SP


class CKA(SP):
    """``CE + (1 - CKA)`` on the last stage, or the embedding of a network without stages.

    Example:
        >>> CKA(student_layers=["layer3"]).options.student_layers
        ('layer3',)
    """

    name = "cka"
    paper = "index: Kornblith et al., ICML 2019, arXiv:1905.00414"
    continuous = True
    status = "control"
    weight = 1.0

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return cka(student, teacher)
