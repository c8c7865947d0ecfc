"""The residual networks of the CIFAR distillation literature."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..shapes import Images, Logits


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a shortcut; 1×1 projection where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        if stride != 1 or inputs != outputs:
            self.downsample: nn.Module | None = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        """``relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))``."""
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + shortcut)
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
        self.conv1 = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(stem, first, blocks, 1)
        self.layer2 = _stage(first, second, blocks, 2)
        self.layer3 = _stage(second, third, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)


def residual(depth: int, wide: bool = False) -> Callable[..., ResNet]:
    """A factory for the table: the network of this depth, plain (16-16-32-64) or "x4" (32-64-128-256)."""
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)

    def build(*, classes: int, channels: int, size: tuple[int, int]) -> ResNet:
        return ResNet(depth, widths, classes=classes, channels=channels)

    return build
