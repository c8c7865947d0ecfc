"""The pre-activated residual network with 18 layers, used in studies of label noise."""

from __future__ import annotations

from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import convolution, he_normal


class PreActBlock(nn.Module):
    """Normalise, ReLU, convolve, twice, beside a shortcut; a 1×1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, 3, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs, 3)
        self.relu = nn.ReLU()
        kept = stride == 1 and inputs == outputs
        self.shortcut = None if kept else nn.Sequential(convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """``conv2(relu(bn2(conv1(a)))) + shortcut`` with ``a = relu(bn1(x))``; a projection reads ``a``."""
        a: Tensor = self.relu(self.bn1(x))
        y: Tensor = self.conv2(self.relu(self.bn2(self.conv1(a))))
        return y + (x if self.shortcut is None else self.shortcut(a))


class PreActResNet18(nn.Module):
    """Pre-activated residual network: a 3×3 stem of 64 channels, four stages of two blocks, average, linear.

    Stages are ``layer1`` … ``layer4`` (32×32 to 4×4 at 32×32); they were not rectified, and what rectification
    reads is the next batch normalisation (``preacts``). Convolutions start from He's normal (fan out).

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width (any).

    Source: He et al., arXiv:1603.05027; a batch normalisation and ReLU stand before the average, as in that
    paper. Public CIFAR versions that leave them out have other parameters. No golden numbers.

    Example:
        >>> net = PreActResNet18(classes=10, channels=3, size=(32, 32))
        >>> sum(p.numel() for p in net.parameters())
        11172170
    """

    def __init__(self, *, classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = convolution(channels, 64, 3)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        self.bn = nn.BatchNorm2d(512)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512, classes)
        self.anatomy = Anatomy(
            "conv1",
            ("layer1", "layer2", "layer3", "layer4"),
            ("layer2.0.bn1", "layer3.0.bn1", "layer4.0.bn1", "bn"),
        )
        he_normal(self)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        logits: Tensor = self.linear(self.avgpool(self.relu(self.bn(x))).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(PreActBlock(inputs, outputs, stride), PreActBlock(outputs, outputs, 1))
