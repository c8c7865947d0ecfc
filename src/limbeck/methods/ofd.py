"""OFD: the overhaul of feature distillation."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..connectors import Shape, as_map, match, text, width
from ..errors import ModelError
from ..losses.ofd import ofd, ofd_margin
from ..signals import Batch, Signals
from ..taps import Layout
from .ab import stage_weights
from .base import Setting, Term, Terms
from .layers import FeatureMethod, Pair


class OFD(FeatureMethod):
    """``CE + 0.001 sum over stages of 2^(i - n + 1) OFD`` on pre-activations.

    Margins come from the teacher's batch normalisation before each activation, the connector is a 1x1
    convolution with batch normalisation, and the larger map is average-pooled to the smaller one's size.

    Two deviations: the teacher stays in evaluation mode (the released code trains with its batch statistics),
    and the margins belong to the layers that are compared (the released code takes the first ones even where
    the last stages are aligned).

    Example:
        >>> OFD.weight
        0.001
    """

    name = "ofd"
    paper = "Heo et al., ICCV 2019, arXiv:1904.01866"
    status = "verified"
    weight = 0.001

    connectors: nn.ModuleList

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pairs = self.maps(self.preacts(student, teacher))
        for i, pair in enumerate(pairs):
            norm = self._norm(pair, self.network(teacher), setting.teacher)
            self.register_buffer(f"margin{i + 1}", ofd_margin(norm.weight, norm.bias))
        self.connectors = nn.ModuleList(Aligner(pair.source, width(pair.target)) for pair in pairs)
        self.compare(pairs, [str(connector) for connector in self.connectors])

    def _norm(self, pair: Pair, layout: Layout, teacher: nn.Module | None) -> nn.BatchNorm2d:
        """The batch normalisation whose statistics tell how the teacher's pre-activations are spread."""
        name = layout.norm_before(pair.teacher)
        norm = None if name is None or teacher is None else teacher.get_submodule(name)
        if not isinstance(norm, nn.BatchNorm2d) or not norm.affine:
            raise ModelError(
                "method 'ofd' takes its margins from batch normalisation, and the teacher has none of the right "
                f"width before {pair.teacher!r}",
                expected=f"nn.BatchNorm2d of {pair.target[0]} channels",
                fix="name other teacher_layers, or choose a method without margins, such as ab or fitnets",
            )
        return norm

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        maps = self.feature_maps(student, teacher)
        weights, values = stage_weights(len(maps)), []
        for i, (connector, (s, t)) in enumerate(zip(self.connectors, maps, strict=True)):
            s, t = match(connector(s), t)
            values.append(weights[i] * ofd(s, t, self.get_buffer(f"margin{i + 1}")))
        return {self.name: Term(sum(values[1:], values[0]))}


class Aligner(nn.Sequential):
    """A 1x1 convolution without bias, from N(0, 2 / channels), and batch normalisation.

    Example:
        >>> str(Aligner((8, 4, 4), 16))
        '8x4x4 -> 1x1 convolution, norm -> 16 channels'
    """

    def __init__(self, source: Shape, channels: int) -> None:
        convolution = nn.Conv2d(width(source), channels, 1, bias=False)
        nn.init.normal_(convolution.weight, 0, math.sqrt(2 / channels))
        super().__init__(convolution, nn.BatchNorm2d(channels))
        self.source, self.channels = source, channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, *source) -> (N, channels, H, W)``."""
        found = as_map(x)
        for layer in self:
            found = layer(found)
        return found

    def __str__(self) -> str:
        return f"{text(self.source)} -> 1x1 convolution, norm -> {self.channels} channels"
