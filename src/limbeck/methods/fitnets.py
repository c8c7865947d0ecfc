"""FitNets: a hint from the middle of the teacher."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from ..connectors import Connector, Shape, as_map, grid, resize, text, width
from ..losses import fitnets
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod, Pair


class FitNets(FeatureMethod):
    """``CE + 100 mean (r(student) - teacher)^2`` at the middle stage, r a trained convolutional regressor.

    Of an even number of stages, the shallower middle one. Layers named by hand are all compared, and their
    terms added up. The paper trains the hint before, and knowledge distillation after it; the released
    toolkits, and this method, train hint and labels together. The published regressor always ends in a ReLU,
    behind which the negative numbers of a wide ResNet's stages are out of reach.

    Example:
        >>> FitNets(relu=False).options.relu
        False
    """

    name = "fitnets"
    paper = "Romero et al., ICLR 2015, arXiv:1412.6550"
    continuous = True
    status = "verified"
    weight = 100.0

    class Options(FeatureMethod.Options):
        """Layers, and the regressor's end."""

        relu: bool | None = Field(
            None,
            description="end the regressor in a ReLU; null: unless the teacher's layer gives negative numbers",
        )

    options: Options
    regressors: nn.ModuleList

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        pairs = self.stages(student, teacher)
        if not (self.options.student_layers or self.options.teacher_layers):
            middle = (len(pairs) - 1) // 2
            pairs, self.choices = pairs[middle : middle + 1], ()
        self.regressors = nn.ModuleList(self._regressor(pair, self.network(teacher)) for pair in pairs)
        self.compare(pairs, [str(regressor) for regressor in self.regressors])

    def _regressor(self, pair: Pair, teacher: Layout) -> Regressor | Connector:
        if grid(pair.source) is None or grid(pair.target) is None:
            return self.connector(pair)
        relu = self.options.relu
        return Regressor(pair.source, pair.target, not teacher.signed(pair.teacher) if relu is None else relu)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        pairs = zip(self.regressors, self.features(student, teacher), strict=True)
        values = [fitnets(r(s), as_map(t) if isinstance(r, Regressor) else t) for r, (s, t) in pairs]
        return {self.name: Term(sum(values[1:], values[0]))}


class Regressor(nn.Module):
    """A convolution, batch normalisation and a ReLU from the student's map to the shape of the teacher's.

    A 1x1 convolution for equal grids, 3x3 with stride 2 to half the size, a transposed 4x4 with stride 2 to
    twice the size, a valid convolution for a grid up to 4 pixels smaller; for the rest, which the published
    code refuses or answers with very large kernels, a 1x1 convolution and resizing.

    Args:
        source: shape of the student's features: a map, or tokens on a square grid.
        target: shape of the teacher's features, likewise.
        relu: whether it ends in a ReLU.

    Source:
        RepDistiller ``ConvReg``.

    Example:
        >>> import torch
        >>> regressor = Regressor((8, 6, 6), (16, 3, 3))
        >>> regressor(torch.zeros(2, 8, 6, 6)).shape, str(regressor)
        (torch.Size([2, 16, 3, 3]), '8x6x6 -> 3x3 convolution, stride 2, norm, ReLU -> 16x3x3')
    """

    def __init__(self, source: Shape, target: Shape, relu: bool = True) -> None:
        super().__init__()
        have, want = grid(source), grid(target)
        assert have is not None
        assert want is not None
        self.source, self.target, self.size = source, target, want
        inside, outside = width(source), width(target)
        (h, w), (high, wide) = have, want
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if (h, w) == (2 * high, 2 * wide):
            self.conv = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        elif (2 * h, 2 * w) == (high, wide):
            self.conv = nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1)
        elif 0 <= h - high <= 4 and 0 <= w - wide <= 4:
            self.conv = nn.Conv2d(inside, outside, (1 + h - high, 1 + w - wide))
        else:
            self.conv = nn.Conv2d(inside, outside, 1)
        self.bn = nn.BatchNorm2d(outside)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """``(N, *source)`` -> maps ``(N, C, H, W)`` of the target."""
        found: Tensor = self.bn(resize(self.conv(as_map(x)), self.size))
        return found.relu() if self.relu else found

    def __str__(self) -> str:
        kernel = text(tuple(self.conv.kernel_size))
        steps = [f"{kernel} {'transposed ' * isinstance(self.conv, nn.ConvTranspose2d)}convolution"]
        steps += ["stride 2"] * (self.conv.stride[0] == 2) + ["norm"] + ["ReLU"] * self.relu
        return f"{text(self.source)} -> {', '.join(steps)} -> {text(self.target)}"
