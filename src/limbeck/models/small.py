"""Small plain networks for small images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import he_normal

Norm = Literal["batch", "group", "none"]
Widths = Annotated[Sequence[PositiveInt], Field(min_length=1)]


class CNN(nn.Module):
    """A plain convolutional network: per width a 3×3 convolution, a norm and a ReLU, then a global average.

    Resolution is halved (2×2 maximum) between stages ``stages.0``, ``stages.1``, … Any input size.

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width (any).
        widths: channels of each stage.
        norm: ``batch``, ``group`` (8 groups, or fewer where the width asks for it) or ``none``.

    Example:
        >>> net = CNN(classes=10, channels=1, size=(8, 8), widths=(16, 32))
        >>> sum(p.numel() for p in net.parameters())
        5178
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: tuple[int, int],
        widths: Widths = (16, 32),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        stages = []
        for i, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
            pool = [nn.MaxPool2d(2, ceil_mode=True)] if i else []
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
            stages.append(nn.Sequential(*pool, conv, *_norm(norm, outputs), nn.ReLU()))
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)
        names = tuple(f"stages.{i}" for i in range(len(stages)))
        preacts = tuple(f"{name}.{len(stage) - 2}" for name, stage in zip(names, stages, strict=True))
        self.anatomy = Anatomy(None, names, preacts)
        he_normal(self)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        logits: Tensor = self.fc(self.avgpool(self.stages(x)).flatten(1))
        return logits


class MLP(nn.Module):
    """A plain multilayer perceptron on flattened images.

    Args:
        classes: outputs.
        channels: image channels.
        size: height and width; fixed, unlike the convolutional networks'.
        widths: hidden units of each layer.

    Example:
        >>> net = MLP(classes=10, channels=1, size=(8, 8), widths=(32,))
        >>> sum(p.numel() for p in net.parameters())
        2410
    """

    def __init__(
        self, *, classes: int, channels: int, size: tuple[int, int], widths: Widths = (128,)
    ) -> None:
        super().__init__()
        inputs = channels * size[0] * size[1]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise((inputs, *widths)))
        )
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        logits: Tensor = self.fc(self.layers(x.flatten(1)))
        return logits


def _norm(kind: Norm, width: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm2d(width)]
    if kind == "group":
        return [nn.GroupNorm(math.gcd(width, 8), width)]
    return []
