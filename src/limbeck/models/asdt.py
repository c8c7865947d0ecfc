"""The network of ASDT: one trunk, a classification branch and two heads for masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..taps import Anatomy
from ._layers import he_normal
from .segmentation import Dilations, Stride, Trunk
from .small import Norm, Widths


class Dual(NamedTuple):
    """What the network says.

    Attributes:
        student: score maps of the second head ``(B, K, h, w)``.
        teacher: score maps of the first head, the second teacher.
        cams: class activation maps, not negative, ``(B, K - 1, h, w)``, without gradient: the first teacher.
        scores: of the classes being somewhere in the image, ``(B, K - 1)``.
    """

    student: Tensor
    teacher: Tensor
    cams: Tensor
    scores: Tensor

    @property
    def logits(self) -> Tensor:
        """The student's maps, for runs that are taught by masks."""
        return self.student


class ASDTNet(nn.Module):
    """One trunk with three heads (Zhang et al., arXiv:2112.09459).

    The classification branch is Dropout2d, a global average and a 1×1 convolution without bias, whose weights
    applied to every place, cut at 0, are the class activation maps. Each mask head is a dilated 3×3 convolution,
    a ReLU and another one. All heads train the trunk.

    Args:
        classes: K, the background among them; the classification branch has one less.
        channels: image channels.
        size: height and width of the images (any).
        widths: channels of the trunk's layers.
        stride: the maps are this much smaller than the images.
        dilations: of the trunk's layers; the last one goes on for the rest.
        norm: ``batch``, ``group`` or ``none``. (The published trunk has frozen batch norms; group norms behave
            alike in both modes and can be trained from scratch.)
        hidden: channels inside a head (512 in the paper).
        head_dilation: of the heads (12 in the paper).
        dropout: of whole channels before the classification.
        detach_student: keep the student's gradient out of the trunk.

    Example:
        >>> net = ASDTNet(classes=4, channels=3, size=(32, 32), widths=(8, 16))
        >>> [tuple(part.shape) for part in net(torch.zeros(2, 3, 32, 32))]
        [(2, 4, 16, 16), (2, 4, 16, 16), (2, 3, 16, 16), (2, 3)]
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: tuple[int, int],
        widths: Widths = (24, 32, 48, 48),
        stride: Stride = 2,
        dilations: Dilations = (1, 1, 2, 2),
        norm: Norm = "group",
        hidden: PositiveInt = 32,
        head_dilation: PositiveInt = 2,
        dropout: float = 0.5,
        detach_student: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(channels, widths, stride, dilations, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(widths[-1], classes - 1, 1, bias=False)
        self.teacher = _head(widths[-1], hidden, classes, head_dilation)
        self.student = _head(widths[-1], hidden, classes, head_dilation)
        self.detach_student = detach_student
        names = tuple(f"trunk.{i}" for i in range(len(widths)))
        self.anatomy = Anatomy(None, names, ())
        he_normal(self)

    def forward(self, x: Tensor) -> Dual:
        """Maps and scores of images ``(B, channels, H, W)``."""
        features = self.trunk(x)
        scores = self.classify(F.adaptive_avg_pool2d(self.dropout(features), 1)).flatten(1)
        with torch.no_grad():
            cams = F.relu(F.conv2d(features.detach(), self.classify.weight))
        seen = features.detach() if self.detach_student else features
        return Dual(self.student(seen), self.teacher(features), cams, scores)


def _head(inputs: int, hidden: int, classes: int, dilation: int) -> nn.Sequential:
    def layer(a: int, b: int) -> nn.Conv2d:
        return nn.Conv2d(a, b, 3, padding=dilation, dilation=dilation)

    return nn.Sequential(layer(inputs, hidden), nn.ReLU(), layer(hidden, classes))
