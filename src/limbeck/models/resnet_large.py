"""ImageNet's residual networks with a stem for small images, as distillation papers use them on CIFAR."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import convolution, he_normal, strides


class LargeBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a shortcut.

    ``preact`` computes nothing: it is the tap on the sum before the last ReLU.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)
        self.preact = nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(self.preact(y + self.shortcut(x)))
        return out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 to four times the width, with batch normalisation and a shortcut.

    ``preact`` computes nothing: it is the tap on the sum before the last ReLU.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _shortcut(inputs, 4 * width, stride)
        self.preact = nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``relu(bn(conv(relu(bn(conv(relu(bn(conv(x)))))))) + shortcut(x))``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(self.preact(y + self.shortcut(x)))
        return out


Block = type[LargeBlock] | type[Bottleneck]


class LargeResNet(nn.Module):
    """ImageNet's residual network for small images: a 3×3 stem of stride 1, no maximum, four stages, linear.

    Stages are ``layer1`` … ``layer4`` (32×32 to 4×4 at 32×32). Convolutions start from He's normal (fan out).

    Args:
        block: ``LargeBlock`` or ``Bottleneck``.
        blocks: of each stage.
        classes: outputs.
        channels: image channels.

    Source: He et al., arXiv:1512.03385, in the form that distillation papers share; parameters, state-dict
    names and logits of ResNet50 agree with the published network (tests/parity/test_zoo.py).

    Example:
        >>> net = LargeResNet(Bottleneck, (3, 4, 6, 3), classes=100, channels=3)
        >>> sum(p.numel() for p in net.parameters())
        23705252
    """

    def __init__(
        self,
        block: Block,
        blocks: tuple[int, int, int, int],
        *,
        classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        wider = block.expansion
        self.conv1 = convolution(channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)
        self.layer2 = _stage(block, 64 * wider, 128, blocks[1], 2)
        self.layer3 = _stage(block, 128 * wider, 256, blocks[2], 2)
        self.layer4 = _stage(block, 256 * wider, 512, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512 * wider, classes)
        names = tuple(f"layer{i}" for i in range(1, 5))
        last = (f"{name}.{count - 1}.preact" for name, count in zip(names, blocks, strict=True))
        self.anatomy = Anatomy("relu", names, tuple(last))
        he_normal(self)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(block: Block, inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    stage = nn.Sequential()
    for s in strides(stride, blocks):
        stage.append(block(inputs, width, s))
        inputs = width * block.expansion
    return stage


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 1×1 projection with batch normalisation where shapes differ, else nothing."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def large(block: Block, *blocks: int) -> Callable[..., LargeResNet]:
    """A factory for the table."""
    first, second, third, fourth = blocks

    def build(*, classes: int, channels: int, size: tuple[int, int]) -> LargeResNet:
        return LargeResNet(block, (first, second, third, fourth), classes=classes, channels=channels)

    return build
