"""VGG networks of the CIFAR distillation literature."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from ..shapes import Images, Logits
from ..taps import Anatomy
from ._layers import he_normal

DEPTHS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each of the five blocks."""

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five blocks of 3×3 convolutions with batch normalisation, 2×2 maxima between them, average, one linear.

    The last ReLU of each block is a module of its own (``relu0`` … ``relu4``), so a block gives what comes
    before it. As published, the resolution is halved before the last block only for images of 64 pixels and
    more, and the stages are ``relu1`` … ``relu4``. Odd sizes are pooled upwards. Convolutions have a bias and
    start from He's normal (fan out), the classifier from N(0, 0.01²).

    Args:
        depth: 8, 11, 13, 16 or 19.
        classes: outputs.
        channels: image channels.

    Source: Simonyan, Zisserman, arXiv:1409.1556, in the form that distillation papers share; parameters,
    state-dict names and logits agree with the published networks (tests/parity/test_zoo.py).

    Example:
        >>> sum(p.numel() for p in VGG(8, classes=100, channels=3).parameters())
        3965028
    """

    def __init__(self, depth: int, *, classes: int, channels: int) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(pairwise((channels, *WIDTHS))):
            self.add_module(f"block{i}", _block(inputs, outputs, DEPTHS[depth][i]))
            self.add_module(f"relu{i}", nn.ReLU())
            last = i == len(WIDTHS) - 1
            self.add_module(f"pool{i}", nn.AdaptiveAvgPool2d(1) if last else nn.MaxPool2d(2, ceil_mode=True))
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        self.anatomy = Anatomy(
            "relu0", tuple(f"relu{i}" for i in range(1, 5)), tuple(f"block{i}" for i in range(1, 5))
        )
        he_normal(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        large = x.shape[2] >= 64
        for i in range(len(WIDTHS)):
            x = self.get_submodule(f"relu{i}")(self.get_submodule(f"block{i}")(x))
            if i != 3 or large:
                x = self.get_submodule(f"pool{i}")(x)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def _block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        conv = nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def vgg(depth: int) -> Callable[..., VGG]:
    """A factory for the table."""

    def build(*, classes: int, channels: int, size: tuple[int, int]) -> VGG:
        return VGG(depth, classes=classes, channels=channels)

    return build
