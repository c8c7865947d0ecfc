"""NST: neuron selectivity transfer."""

from __future__ import annotations

from ..losses import nst
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod


class NST(FeatureMethod):
    """``CE + 50 sum over stages of NST``, the published weight.

    Example:
        >>> NST().weight
        50.0
    """

    name = "nst"
    paper = "Huang, Wang 2017, arXiv:1707.01219"
    status = "verified"
    weight = 50.0

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        self.compare(self.maps(self.stages(student, teacher)))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        values = [nst(s, t) for s, t in self.feature_maps(student, teacher)]
        return {self.name: Term(sum(values[1:], values[0]))}
