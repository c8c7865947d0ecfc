"""ShuffleNet of the CIFAR distillation literature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import Shuffle, convolution, strides

STEM = 24
GROUPS = 3


class ShuffleUnit(nn.Module):
    """Grouped 1×1, shuffle, 3×3 per channel, grouped 1×1; at stride 2 the pooled input is put beside the result.

    ``preact`` computes nothing: it is the tap on what the last ReLU reads.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // 4
        groups = 1 if inputs == STEM else GROUPS
        self.conv1 = convolution(inputs, middle, 1, groups=groups)
        self.bn1 = nn.BatchNorm2d(middle)
        self.shuffle1 = Shuffle(groups)
        self.conv2 = convolution(middle, middle, 3, stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = convolution(middle, outputs, 1, groups=GROUPS)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.preact = nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``relu(y + x)``, or ``relu([y, pool(x)])`` at stride 2."""
        y = self.shuffle1(self.relu(self.bn1(self.conv1(x))))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(self.preact(y + x if self.pool is None else torch.cat([y, self.pool(x)], 1)))
        return out


class ShuffleV1(nn.Module):
    """ShuffleNet with 3 groups: a 1×1 stem of 24 channels at full resolution, stages of 240, 480 and 960, linear.

    Stages are ``layer1``, ``layer2``, ``layer3`` (16×16, 8×8, 4×4 at 32×32). The global average equals the
    published 4×4 pool at 32×32. PyTorch's default initialisation, as published.

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width (any).

    Source: Zhang et al., arXiv:1707.01083, in the form that distillation papers share; parameters, state-dict
    names and logits agree with the published network (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in ShuffleV1(classes=100, channels=3, size=(32, 32)).parameters())
        949258
    """

    def __init__(self, *, classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = convolution(channels, STEM, 1)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM, 240, 4)
        self.layer2 = _stage(240, 480, 8)
        self.layer3 = _stage(480, 960, 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(960, classes)
        self.anatomy = Anatomy(
            "relu", ("layer1", "layer2", "layer3"), ("layer1.3.preact", "layer2.7.preact", "layer3.3.preact")
        )

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """The first unit computes ``outputs - inputs`` channels and keeps its input beside them."""
    units = [ShuffleUnit(inputs, outputs - inputs, 2)]
    return nn.Sequential(*units, *(ShuffleUnit(outputs, outputs, s) for s in strides(1, blocks - 1)))
