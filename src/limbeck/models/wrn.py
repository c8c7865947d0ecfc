"""Wide residual networks of the CIFAR distillation literature."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import convolution, he_normal, strides


class WideBlock(nn.Module):
    """Normalise, ReLU, convolve, twice, beside a shortcut; a 1×1 convolution where channels differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = convolution(outputs, outputs, 3)
        self.convShortcut = None if inputs == outputs else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``conv2(relu(bn2(conv1(a)))) + shortcut`` with ``a = relu(bn1(x))``; a projection reads ``a``."""
        a: Tensor = self.relu1(self.bn1(x))
        y: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(a))))
        return y + (x if self.convShortcut is None else self.convShortcut(a))


class WideStage(nn.Module):
    """Blocks in a row; a module of its own only because published checkpoints name it so."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(
                WideBlock(inputs if i == 0 else outputs, outputs, s)
                for i, s in enumerate(strides(stride, blocks))
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """The blocks in order."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Wide residual network: a stem of 16 channels, three pre-activated stages, batch norm, average, linear.

    Stages ``block1``, ``block2``, ``block3`` give 16, 32 and 64 times ``width`` channels; no dropout. Their
    outputs were not rectified; what rectification reads is the next batch normalisation (``preacts``). The
    global average equals the published 8×8 pool at 32×32. Convolutions start from He's normal (fan out).

    Args:
        depth: 6n + 4.
        width: factor on the channels of the stages.
        classes: outputs.
        channels: image channels.

    Source: Zagoruyko, Komodakis, arXiv:1605.07146, in the form that distillation papers share; parameters,
    state-dict names and logits agree with the published networks (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in WideResNet(16, 1, classes=100, channels=3).parameters())
        180916
    """

    def __init__(self, depth: int, width: int, *, classes: int, channels: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        first, second, third = (16 * width, 32 * width, 64 * width)
        self.conv1 = convolution(channels, 16, 3)
        self.block1 = WideStage(16, first, blocks, 1)
        self.block2 = WideStage(first, second, blocks, 2)
        self.block3 = WideStage(second, third, blocks, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        self.anatomy = Anatomy(
            "conv1", ("block1", "block2", "block3"), ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
        )
        he_normal(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))
        return logits


def wide(depth: int, width: int) -> Callable[..., WideResNet]:
    """A factory for the table."""

    def build(*, classes: int, channels: int, size: tuple[int, int]) -> WideResNet:
        return WideResNet(depth, width, classes=classes, channels=channels)

    return build
