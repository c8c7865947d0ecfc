"""ReviewKD: the student reviews its deeper stages while it learns a shallower one of the teacher's."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..connectors import Shape, as_map, grid, width
from ..losses.reviewkd import hcl
from ..signals import Batch, Signals
from ..taps import Layout
from .base import Setting, Term, Terms
from .layers import FeatureMethod

Size = tuple[int, int]
WIDEST = 512
"""Most channels inside the fusion modules."""


class ReviewKD(FeatureMethod):
    """``CE + 5 min((epoch + 1) / 20, 1) sum over levels of HCL``.

    Levels are the stages and, as a map of one place, the embedding. From deep to shallow, attention-based
    fusion mixes each student stage with what came from deeper ones; its outputs are compared with the
    teacher's pre-activations (and embedding).

    Epochs are counted from 0 here, as everywhere: the factor is mdistiller's. In the authors' code the first
    epoch has factor 0. The authors take weight 5 for most pairs, 8 for ShuffleNetV2, 1 and 0.6 for small
    ResNets.

    Example:
        >>> ReviewKD().options.warmup
        20
    """

    name = "reviewkd"
    paper = "Chen et al., CVPR 2021, arXiv:2104.09044"
    status = "verified"
    weight = 5.0

    class Options(FeatureMethod.Options):
        """Layers, and the warm-up."""

        warmup: int = Field(20, ge=0, description="epochs over which the weight rises to its full size")

    options: Options
    fusions: nn.ModuleList

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o, teacher = self.options, self.network(teacher)
        ours = () if o.student_layers else student.stages
        theirs = () if o.teacher_layers else teacher.before_activation()
        pairs = self.maps(self.paired(student, teacher, ours, theirs))
        told = self.choices
        if not (o.student_layers or o.teacher_layers):
            pairs += self.embeddings(student, teacher)
        self.choices = told
        middle = min(WIDEST, width(pairs[-1].source))
        fused = [True] * (len(pairs) - 1) + [False]
        self.fusions = nn.ModuleList(
            ABF(width(pair.source), middle, width(pair.target), fuse)
            for pair, fuse in zip(pairs, fused, strict=True)
        )
        self.sizes = [_grid(pair.target) for pair in pairs]
        self.compare(pairs, [f"fusion of {middle} channels"] * len(pairs))

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        levels = [(_map(s), _map(t)) for s, t in self.features(student, teacher)]
        below, values = None, []
        for fusion, size, (s, t) in reversed(list(zip(self.fusions, self.sizes, levels, strict=True))):
            out, below = fusion(s, below, size)
            values.append(hcl(out, t))
        warmup = self.options.warmup
        ramp = min((int(self.epoch) + 1) / warmup, 1.0) if warmup else 1.0
        return {self.name: Term(sum(values[1:], values[0]), ramp)}


class ABF(nn.Module):
    """Attention-based fusion of a stage with what was fused before, from a deeper one.

    ``x = norm(conv1x1(x))``; then, with two attention maps from a 1x1 convolution and a sigmoid,
    ``x = a1 x + a2 resize(y)``; gives ``norm(conv3x3(resize(x)))`` for the loss, and ``resize(x)`` for the
    next. Resizing takes the nearest place.

    Args:
        inputs: channels of the stage.
        middle: channels inside.
        outputs: channels of the teacher's stage.
        fuse: whether there is something deeper to fuse with.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, fuse: bool) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, middle, 1, bias=False)
        last = nn.Conv2d(middle, outputs, 3, padding=1, bias=False)
        self.conv1, self.conv2 = nn.Sequential(first, Norm(middle)), nn.Sequential(last, Norm(outputs))
        self.att_conv = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuse else None
        for convolution in (first, last):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, x: Tensor, y: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        """Output for the loss and residual for the next level, both of this size."""
        x = self.conv1(x)
        if self.att_conv is not None and y is not None:
            y = _nearest(y, (x.shape[2], x.shape[3]))
            first, second = self.att_conv(torch.cat([x, y], 1)).split(1, 1)
            x = x * first + y * second
        x = _nearest(x, size)
        return self.conv2(x), x


class Norm(nn.BatchNorm2d):
    """Batch normalisation that takes its running statistics where a channel has a single value.

    A last batch of one sample has no variance at one place.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` in the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _nearest(x: Tensor, size: Size) -> Tensor:
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size, mode="nearest")


def _map(x: Tensor) -> Tensor:
    """A vector as a map of one place; maps, and tokens on a grid, as maps."""
    return x[:, :, None, None] if x.dim() == 2 else as_map(x)


def _grid(shape: Shape) -> Size:
    return grid(shape) or (1, 1)
