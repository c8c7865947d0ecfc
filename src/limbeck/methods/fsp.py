"""FSP: the flow of the solution procedure, as an initialisation."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import nn

from ..connectors import width
from ..errors import ModelError
from ..losses import fsp
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod, stem


class FSP(FeatureMethod):
    """30 epochs of ``sum over consecutive stages of FSP``, then plain ``CE``.

    The stem before the first stage counts as a stage. The two networks must have equal widths, as published;
    ``connectors`` lifts that. The weight plays no part.

    Example:
        >>> FSP(initial_epochs=5).initial_epochs
        5
    """

    name = "fsp"
    paper = "Yim et al., CVPR 2017"
    status = "verified"

    class Options(FeatureMethod.Options):
        """Layers, and the initialisation stage."""

        initial_epochs: int = Field(30, ge=1, description="epochs of the initialisation stage")
        connectors: bool = Field(
            False,
            description="bring unlike widths together by trained 1x1 convolutions, which nobody published",
        )

    options: Options

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.initial_epochs = self.options.initial_epochs
        self.connected = nn.ModuleList()

    def term_weights(self) -> dict[str, float]:
        return {}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        chains = [(*stem(network), *network.stages) for network in (student, self.network(teacher))]
        pairs = self.maps(self.paired(student, teacher, *chains))
        if len(pairs) < 2:
            raise ModelError(
                f"method {self.name!r} compares what happens between two layers",
                got=", ".join(map(str, pairs)),
                expected="at least two layers of each network",
                fix="name them with student_layers and teacher_layers",
            )
        if self.options.connectors:
            self.connected = nn.ModuleList(
                nn.Identity()
                if width(pair.source) == width(pair.target)
                else nn.Conv2d(width(pair.source), width(pair.target), 1)
                for pair in pairs
            )
        elif unlike := [pair for pair in pairs if width(pair.source) != width(pair.target)]:
            raise ModelError(
                f"method {self.name!r} needs layers of equal widths",
                got="; ".join(map(str, unlike)),
                fix="choose networks of equal widths, or set connectors: true, which nobody published",
            )
        self.compare(pairs)

    def initial(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        found = self.feature_maps(student, teacher)
        ours, theirs = [s for s, _ in found], [t for _, t in found]
        if self.connected:
            ours = [connector(s) for connector, s in zip(self.connected, ours, strict=True)]
        flows = zip(pairwise(ours), pairwise(theirs), strict=True)
        values = [fsp(mine, other) for mine, other in flows]
        return {self.name: Term(sum(values[1:], values[0]))}

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        return {}
