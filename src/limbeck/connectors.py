"""Bringing a student's features to the shape of a teacher's."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ModelError

Shape = tuple[int, ...]


class Connector(nn.Module):
    """A learned projection from one feature shape to another, trained and saved with the student.

    Vectors ``(D,)`` get a linear layer, maps ``(C, H, W)`` a 1x1 convolution, tokens ``(L, D)`` a linear
    layer per token; then the grid is resized (average pooling down, bilinear up). A map becomes tokens by
    reading its grid row by row, and tokens become a map where their number, without a leading class token,
    is a square; equally many tokens are projected one by one. A map becomes a vector by its spatial mean.

    Args:
        source: shape of the student's features, without the batch.
        target: shape of the teacher's.

    Raises:
        ModelError: no connector is known between these shapes.

    Example:
        >>> import torch
        >>> connector = Connector((8, 4, 4), (16, 2, 2))
        >>> connector(torch.zeros(3, 8, 4, 4)).shape, str(connector)
        (torch.Size([3, 16, 2, 2]), '8x4x4 -> 1x1 convolution, average pooling -> 16x2x2')
    """

    def __init__(self, source: Shape, target: Shape) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.grid = grid(target)
        self.aligned = len(source) == len(target) == 2 and source[0] == target[0]
        if len(target) > 1 and not self.aligned and (self.grid is None or grid(source) is None):
            raise ModelError(
                "no connector between these features",
                got=f"student {text(source)}, teacher {text(target)}",
                expected="maps or square token grids on both sides, or vectors on the teacher's",
                fix="name other layers with the method's student_layers and teacher_layers",
            )
        inside, outside = width(source), width(target)
        self.project: nn.Module = nn.Identity() if inside == outside else nn.Linear(inside, outside)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, *source) -> (N, *target)``."""
        if len(self.target) == 1 or self.aligned:
            out: Tensor = self.project(x if self.aligned else as_vector(x))
            return out
        x = as_map(x)
        x = self.project(x.movedim(1, -1)).movedim(-1, 1)
        assert self.grid is not None
        x = resize(x, self.grid)
        if len(self.target) == 3:
            return x
        tokens = x.flatten(2).transpose(1, 2)
        missing = self.target[0] - tokens.shape[1]
        return F.pad(tokens, (0, 0, missing, 0)) if missing else tokens

    def __str__(self) -> str:
        steps = []
        if not isinstance(self.project, nn.Identity):
            steps.append("1x1 convolution" if len(self.source) == 3 else "linear")
        if not self.aligned and self.grid is not None and (old := grid(self.source)) != self.grid:
            steps.append("average pooling" if old and old[0] > self.grid[0] else "bilinear")
        return f"{text(self.source)} -> {', '.join(steps) or 'as it is'} -> {text(self.target)}"


def as_vector(x: Tensor) -> Tensor:
    """Vectors as they are; the spatial mean of maps ``(N, C, H, W)``, the mean of tokens ``(N, L, D)``."""
    return x if x.dim() == 2 else x.mean(1) if x.dim() == 3 else x.flatten(2).mean(2)


def as_map(x: Tensor) -> Tensor:
    """Maps as they are; tokens ``(N, L, D)`` as maps ``(N, D, H, W)``, a class token in front left out."""
    if x.dim() == 4:
        return x
    size = grid(tuple(x.shape[1:]))
    assert size is not None
    x = x[:, x.shape[1] - size[0] * size[1] :]
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps ``(N, C, H, W)`` to a grid: average pooling where it shrinks, bilinear where it grows."""
    if tuple(x.shape[2:]) == size:
        return x
    if x.shape[2] >= size[0] and x.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def match(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps to the smaller one's grid; no parameters.

    Example:
        >>> import torch
        >>> a, b = match(torch.zeros(1, 3, 8, 8), torch.zeros(1, 5, 4, 4))
        >>> a.shape, b.shape
        (torch.Size([1, 3, 4, 4]), torch.Size([1, 5, 4, 4]))
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return resize(student, size), resize(teacher, size)


def grid(shape: Shape) -> tuple[int, int] | None:
    """Height and width of a map, or of tokens that fill a square (with at most one class token in front).

    Example:
        >>> grid((64, 8, 4)), grid((65, 192)), grid((7, 192)), grid((64,))
        ((8, 4), (8, 8), None, None)
    """
    if len(shape) == 3:
        return shape[1], shape[2]
    if len(shape) == 2:
        for tokens in (shape[0], shape[0] - 1):
            if tokens > 0 and (side := math.isqrt(tokens)) ** 2 == tokens:
                return side, side
    return None


def width(shape: Shape) -> int:
    """Channels of a map, width of tokens or of a vector."""
    return shape[0] if len(shape) != 2 else shape[1]


def text(shape: Shape) -> str:
    """``64x8x8``."""
    return "x".join(map(str, shape))


__all__ = ["Connector", "Shape", "as_map", "as_vector", "grid", "match", "resize", "text", "width"]
