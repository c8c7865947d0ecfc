"""PKT: probabilistic knowledge transfer."""

from __future__ import annotations

from pydantic import Field

from ..losses import pkt
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class PKT(FeatureMethod):
    """``CE + 30000 PKT`` on the embedding, RepDistiller's weight.

    Example:
        >>> PKT().options.eps
        1e-07
    """

    name = "pkt"
    paper = "Passalis, Tefas, ECCV 2018, arXiv:1803.10837"
    continuous = True
    status = "verified"
    weight = 30000.0
    across_batch = True

    class Options(FeatureMethod.Options):
        """Layers, and options of ``limbeck.losses.pkt``."""

        eps: float = Field(1e-7, gt=0, description="added to lengths and inside the logarithms")

    options: Options

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.embeddings(student, teacher))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        values = [pkt(s, t, eps=self.options.eps) for s, t in self.feature_vectors(student, teacher)]
        return {self.name: Term(sum(values[1:], values[0]))}
