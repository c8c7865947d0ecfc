"""RKD on logits, for teachers that give nothing else."""

from __future__ import annotations

from pydantic import Field

from ..losses import rkd_angle, rkd_distance
from ..losses._common import Degenerate
from ..signals import Batch, Signals
from .base import Method, Term, Terms


class RKDLogits(Method):
    """``CE + 25 distance + 50 angle`` as ``rkd``, on the logits instead of the embedding.

    So the authors of comparative KD run RKD where a teacher's answers are logits that were asked for once.

    Example:
        >>> RKDLogits(angle_weight=0.0).term_weights()
        {'distance': 25.0}
    """

    name = "rkd_logits"
    paper = "Park et al., CVPR 2019, arXiv:1904.05068; on logits: Wilf et al., WACV 2025, arXiv:2311.02253"
    status = "transcribed"
    across_batch = True

    class Options(Method.Options):
        """Weights, and an option of ``limbeck.losses.rkd_angle``."""

        distance_weight: float = Field(25.0, ge=0, description="weight of distances between two samples")
        angle_weight: float = Field(50.0, ge=0, description="weight of angles between three samples")
        degenerate: Degenerate = Field(
            "skip", description="gradient of two samples with equal logits: none, or the published one"
        )

    options: Options

    def term_weights(self) -> dict[str, float]:
        o = self.options
        return {n: w for n, w in (("distance", o.distance_weight), ("angle", o.angle_weight)) if w}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        s, t, terms = student.logits, self.taught(teacher).logits, Terms()
        for name, weight in self.term_weights().items():
            value = (
                rkd_distance(s, t)
                if name == "distance"
                else rkd_angle(s, t, degenerate=self.options.degenerate)
            )
            terms[name] = Term(value, weight)
        return terms
