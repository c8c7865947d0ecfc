"""The residual networks of the CIFAR distillation literature."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import convolution, he_normal, strides


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a shortcut; 1×1 projection where shapes differ.

    ``preact`` computes nothing: it is the tap on the sum before the last ReLU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.preact = nn.Identity()
        self.relu = nn.ReLU()
        if stride != 1 or inputs != outputs:
            self.downsample: nn.Module | None = nn.Sequential(
                convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        """``relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``."""
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(self.preact(y + shortcut))
        return out


class ResNet(nn.Module):
    """CIFAR residual network: a stem, three stages of ``(depth - 2) / 6`` blocks, global average, linear.

    Stages halve the resolution at their start (the first does not). Modules ``layer1``, ``layer2``,
    ``layer3`` and ``avgpool`` are the usual feature taps. The global average accepts any input size; at 32×32
    it equals the 8×8 average pool of the published networks. Convolutions start from He's normal (fan out).

    Args:
        depth: 6n + 2.
        widths: channels of the stem and of the three stages.
        classes: outputs.
        channels: image channels.

    Source: He et al., arXiv:1512.03385, in the form that distillation papers share (1×1 projection shortcuts;
    the "x4" networks widen the stem to 32 and the stages to 64, 128, 256). Parameters, state-dict names and
    logits agree with the published networks (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in ResNet(8, (16, 16, 32, 64), classes=100, channels=3).parameters())
        83892
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int], *, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, first, second, third = widths
        self.conv1 = convolution(channels, stem, 3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = stage(stem, first, blocks, 1)
        self.layer2 = stage(first, second, blocks, 2)
        self.layer3 = stage(second, third, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        names = ("layer1", "layer2", "layer3")
        self.anatomy = Anatomy("relu", names, tuple(f"{name}.{blocks - 1}.preact" for name in names))
        he_normal(self)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks in a row, the first of which changes channels and resolution."""
    return nn.Sequential(
        *(
            BasicBlock(inputs if i == 0 else outputs, outputs, s)
            for i, s in enumerate(strides(stride, blocks))
        )
    )


def residual(depth: int, wide: bool = False) -> Callable[..., ResNet]:
    """A factory for the table: the network of this depth, plain (16-16-32-64) or "x4" (32-64-128-256)."""
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)

    def build(*, classes: int, channels: int, size: tuple[int, int]) -> ResNet:
        return ResNet(depth, widths, classes=classes, channels=channels)

    return build
