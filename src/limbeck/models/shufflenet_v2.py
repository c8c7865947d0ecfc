"""ShuffleNet V2 of the CIFAR distillation literature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import Shuffle, convolution

STEM = 24
LAST = 1024


class Unit(nn.Module):
    """Half of the channels pass; the other half goes through 1×1, 3×3 per channel, 1×1; then both are shuffled.

    The half that passes is never negative, so the last ReLU may act on both halves: ``preact``, which computes
    nothing, is the tap before it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = convolution(half, half, 1)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = convolution(half, half, 3, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = convolution(half, half, 1)
        self.bn3 = nn.BatchNorm2d(half)
        self.preact = nn.Identity()
        self.relu = nn.ReLU()
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """``shuffle(relu([first half, branch of the second]))``."""
        passing, x = x.chunk(2, 1)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.shuffle(self.relu(self.preact(torch.cat([passing, y], 1))))
        return out


class DownUnit(nn.Module):
    """Two branches of stride 2 side by side: 3×3 per channel and 1×1; and 1×1, 3×3 per channel, 1×1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = convolution(inputs, inputs, 3, 2, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = convolution(inputs, half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = convolution(inputs, half, 1)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = convolution(half, half, 3, 2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = convolution(half, half, 1)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU()
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """``shuffle(relu([left, right]))``."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.bn4(self.conv4(self.relu(self.bn3(self.conv3(x)))))
        right = self.bn5(self.conv5(right))
        out: Tensor = self.shuffle(self.relu(torch.cat([left, right], 1)))
        return out


class ShuffleV2(nn.Module):
    """ShuffleNet V2 ×1: a 1×1 stem of 24 channels at full resolution, three stages, 1×1 to 1024, average, linear.

    Stages are ``layer1``, ``layer2``, ``layer3`` (16×16, 8×8, 4×4 at 32×32). The global average equals the
    published 4×4 pool at 32×32. PyTorch's default initialisation, as published.

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width (any).

    Source: Ma et al., arXiv:1807.11164, in the form that distillation papers share; parameters, state-dict
    names and logits agree with the published network (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in ShuffleV2(classes=100, channels=3, size=(32, 32)).parameters())
        1355528
    """

    def __init__(self, *, classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = convolution(channels, STEM, 1)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM, 116, 3)
        self.layer2 = _stage(116, 232, 7)
        self.layer3 = _stage(232, 464, 3)
        self.conv2 = convolution(464, LAST, 1)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.relu2 = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(LAST, classes)
        self.anatomy = Anatomy(
            "relu", ("layer1", "layer2", "layer3"), ("layer1.3.preact", "layer2.7.preact", "layer3.3.preact")
        )

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
    """One unit that halves the resolution, then ``units`` that keep it."""
    return nn.Sequential(DownUnit(inputs, outputs), *(Unit(outputs) for _ in range(units)))
