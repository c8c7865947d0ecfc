"""Small fully convolutional networks: an image in, a map of class scores out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ..taps import Anatomy
from ._layers import he_normal
from .small import Norm, Widths, _norm

Stride = Literal[1, 2, 4, 8]
Dilations = Annotated[Sequence[PositiveInt], Field(min_length=1)]


class Trunk(nn.Sequential):
    """Convolutions that keep the resolution after the first few: ``(B, C, H, W)`` to ``(B, D, H/s, W/s)``.

    Per width a 3×3 convolution, a norm and a ReLU. The first ``log2(stride)`` of them halve the resolution;
    the others are dilated instead, as in DeepLab (Chen et al., arXiv:1606.00915).

    Args:
        channels: of the images.
        widths: channels of each layer; the last is D.
        stride: how much smaller the maps are than the images.
        dilations: of the layers, shallow to deep; the last one goes on for the rest.
        norm: ``batch``, ``group`` or ``none``.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        stride: int = 2,
        dilations: Sequence[int] = (1,),
        norm: Norm = "batch",
    ) -> None:
        layers = []
        for i, (inputs, outputs) in enumerate(pairwise((channels, *widths))):
            step = 2 if 2 ** (i + 1) <= stride else 1
            dilation = 1 if step == 2 else dilations[min(i, len(dilations) - 1)]
            conv = nn.Conv2d(
                inputs, outputs, 3, step, padding=dilation, dilation=dilation, bias=norm == "none"
            )
            layers.append(nn.Sequential(conv, *_norm(norm, outputs), nn.ReLU()))
        super().__init__(*layers)


class FCN(nn.Module):
    """A fully convolutional network (Long et al., arXiv:1411.4038) with dilated convolutions, no up-sampling inside.

    Args:
        classes: score maps.
        channels: image channels.
        size: height and width of the images (any).
        widths: channels of each layer.
        stride: the maps are this much smaller than the images.
        dilations: of the layers, shallow to deep; the last one goes on for the rest.
        norm: ``batch``, ``group`` or ``none``.

    Example:
        >>> import torch
        >>> net = FCN(classes=4, channels=3, size=(48, 48), widths=(8, 16, 16), dilations=(1, 1, 2))
        >>> tuple(net(torch.zeros(2, 3, 48, 48)).shape)
        (2, 4, 24, 24)
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: tuple[int, int],
        widths: Widths = (16, 32, 32, 32),
        stride: Stride = 2,
        dilations: Dilations = (1, 1, 2, 4),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.trunk = Trunk(channels, widths, stride, dilations, norm)
        self.score = nn.Conv2d(widths[-1], classes, 1)
        names = tuple(f"trunk.{i}" for i in range(len(widths)))
        preacts = tuple(f"{name}.{len(layer) - 2}" for name, layer in zip(names, self.trunk, strict=True))  # type: ignore[arg-type]
        self.anatomy = Anatomy(None, names, preacts)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(B, classes, H / stride, W / stride)`` of images ``(B, channels, H, W)``."""
        maps: Tensor = self.score(self.trunk(x))
        return maps
