"""What the networks of the zoo share."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the resolution at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def he_normal(network: nn.Module) -> None:
    """Fill every convolution from ``N(0, 2 / (k · k · outputs))`` and its bias, if any, with 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def strides(first: int, blocks: int) -> Iterator[int]:
    """Stride of each block of a stage: the stage's own, then 1."""
    yield from (first, *[1] * (blocks - 1))


class Shuffle(nn.Module):
    """Interleave the channels of ``groups`` groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in the same shape."""
        rows, channels, height, width = x.shape
        groups = x.reshape(rows, self.groups, channels // self.groups, height, width)
        return groups.transpose(1, 2).flatten(1, 2)
