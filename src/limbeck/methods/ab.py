"""AB: activation boundaries, an initialisation of the student."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from ..losses.ab import ab
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .fitnets import Regressor
from .layers import FeatureMethod, Pair

SCALE = 3 / 1000
"""Published factor on the sum over stages."""


class AB(FeatureMethod):
    """30 epochs of ``0.003 sum over stages of 2^(i - n + 1) AB`` before the labels, then ``CE`` alone.

    Pre-activations of each stage are compared; where shapes differ a convolution and batch normalisation
    stand between. In the main stage this method asks nothing of the student: name ``kd`` beside it for
    distillation there. The weight plays no part.

    Example:
        >>> AB().initial_epochs, stage_weights(3)
        (30, [0.25, 0.5, 1.0])
    """

    name = "ab"
    paper = "Heo et al., AAAI 2019, arXiv:1811.03233"
    status = "verified"

    class Options(FeatureMethod.Options):
        """Layers, the stage's length, and options of ``limbeck.losses.ab``."""

        initial_epochs: int = Field(30, ge=1, description="epochs of the initialisation stage")
        margin: float = Field(1.0, gt=0, description="how far beyond the boundary is far enough")

    options: Options
    connectors: nn.ModuleList

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.initial_epochs = self.options.initial_epochs

    def term_weights(self) -> dict[str, float]:
        return {}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pairs = self.maps(self.preacts(student, teacher))
        self.connectors = nn.ModuleList(map(_connector, pairs))
        shown = [str(c) if isinstance(c, Regressor) else "as it is" for c in self.connectors]
        self.compare(pairs, shown)

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        maps = self.feature_maps(student, teacher)
        values = [
            weight * ab(connector(s), t, margin=self.options.margin)
            for weight, connector, (s, t) in zip(stage_weights(len(maps)), self.connectors, maps, strict=True)
        ]
        return {self.name: Term(sum(values[1:], values[0]), SCALE)}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return {}


def stage_weights(stages: int) -> list[float]:
    """1 for the last stage, half of the next one's for the others."""
    return [2.0 ** (i - stages + 1) for i in range(stages)]


def _connector(pair: Pair) -> nn.Module:
    return nn.Identity() if pair.source == pair.target else Regressor(pair.source, pair.target, relu=False)
