"""MobileNetV2 of the CIFAR distillation literature."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import convolution, he_normal, strides

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels at width 1, blocks and stride of each stage."""

Width = Annotated[float, Field(gt=0)]


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each channel by 3×3, project by 1×1; a shortcut where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            convolution(inputs, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            convolution(hidden, outputs, 1),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``conv(x)``, plus ``x`` where there is a shortcut."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """Inverted residuals at half width behind a stem of stride 2, 1280 channels, average, linear.

    Stages are ``blocks.1``, ``blocks.2``, ``blocks.4`` and ``blocks.6`` (16×16 to 2×2 at 32×32); no ReLU ends
    them, so they are their own ``preacts``. The global average equals the published 2×2 pool at 32×32.

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width (any).
        width: factor on all channels but the last 1280 (which grow with it above 1).

    Source: Sandler et al., arXiv:1801.04381, in the form that distillation papers share (plain ReLU, first
    stage of stride 1); parameters, state-dict names and logits agree with the published network
    (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in MobileNetV2(classes=100, channels=3, size=(32, 32)).parameters())
        812836
    """

    def __init__(self, *, classes: int, channels: int, size: tuple[int, int], width: Width = 0.5) -> None:
        super().__init__()
        inputs = max(1, int(32 * width))
        self.conv1 = _unit(channels, inputs, 3, 2)
        stages = []
        for expansion, base, blocks, stride in STAGES:
            outputs = max(1, int(base * width))
            stage = nn.Sequential()
            for s in strides(stride, blocks):
                stage.append(InvertedResidual(inputs, outputs, s, expansion))
                inputs = outputs
            stages.append(stage)
        self.blocks = nn.Sequential(*stages)
        final = int(1280 * max(1.0, width))
        self.conv2 = _unit(inputs, final, 1, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        linear = nn.Linear(final, classes)
        self.classifier = nn.Sequential(linear)
        names = ("blocks.1", "blocks.2", "blocks.4", "blocks.6")
        self.anatomy = Anatomy("conv1", names, names)
        he_normal(self)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.avgpool(self.conv2(self.blocks(self.conv1(x))))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def _unit(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), nn.ReLU())
