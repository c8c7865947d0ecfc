"""RKD: relational knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from ..losses import rkd_angle, rkd_distance
from ..losses._common import Degenerate
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class RKD(FeatureMethod):
    """``CE + 25 distance + 50 angle`` on the embedding, the setting of the CIFAR-100 literature.

    Example:
        >>> RKD(distance_weight=0.0).term_weights()
        {'distance': 0.0, 'angle': 50.0}
    """

    name = "rkd"
    paper = "Park et al., CVPR 2019, arXiv:1904.05068"
    continuous = True
    status = "verified"
    across_batch = True

    class Options(FeatureMethod.Options):
        """Layers, weights, and options of ``limbeck.losses.rkd_distance`` and ``rkd_angle``."""

        distance_weight: float = Field(25.0, ge=0, description="weight of distances between two samples")
        angle_weight: float = Field(50.0, ge=0, description="weight of angles between three samples")
        squared: bool = Field(False, description="compare squared distances")
        degenerate: Degenerate = Field(
            "skip", description="gradient of two samples with equal features: none, or the published one"
        )

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {"distance": self.options.distance_weight, "angle": self.options.angle_weight}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.embeddings(student, teacher))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return self.compared(self.feature_vectors(student, teacher))

    def compared(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Terms:
        """The terms for vectors ``(N, D)`` of the student and of the teacher, added up over the pairs."""
        o, terms = self.options, Terms()
        for name, weight in self.term_weights().items():
            if weight:
                values = [
                    rkd_distance(s, t, squared=o.squared)
                    if name == "distance"
                    else rkd_angle(s, t, degenerate=o.degenerate)
                    for s, t in pairs
                ]
                terms[name] = Term(sum(values[1:], values[0]), weight)
        return terms
