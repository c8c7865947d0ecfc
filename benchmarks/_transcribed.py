"""What the benchmarks of losses share: a loss beside a direct transcription of its formula, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Size = tuple[int, ...]
Inputs = tuple[Any, ...]

LOGITS: tuple[Size, ...] = ((64, 100), (256, 1000), (1024, 10_000))
"""Rows and classes."""
MAPS: tuple[Size, ...] = ((64, 256, 8, 8),)
"""Images, channels, height, width."""
VECTORS: tuple[Size, ...] = ((256, 128),)
"""Rows and width of an embedding."""
LARGE = 10**6
"""Inputs with more numbers than this are measured with ``--full`` only."""


@dataclass(frozen=True)
class Pair:
    """One loss twice.

    Attributes:
        ours: Limbeck's.
        reference: the formula as a careful reader of the paper would write it.
        inputs: makes the arguments of both for a size; tensors that require a gradient get one.
        sizes: what is measured.
        goal: the largest ratio of our time, and of our memory, to the reference's.
    """

    ours: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    inputs: Callable[[Size], Inputs]
    sizes: tuple[Size, ...]
    goal: float = 1.0


def normal(*size: int, seed: int = 0, scale: float = 1.0, grad: bool = False) -> Tensor:
    """Normal numbers from a seed."""
    return (scale * torch.randn(size, generator=torch.Generator().manual_seed(seed))).requires_grad_(grad)


def whole(below: int, *size: int, seed: int = 2) -> Tensor:
    """Whole numbers from a seed."""
    return torch.randint(below, size, generator=torch.Generator().manual_seed(seed))


def two(size: Size) -> Inputs:
    """Student and teacher of one shape."""
    return normal(*size, grad=True), normal(*size, seed=1)


def step(call: Callable[..., Tensor], inputs: Inputs) -> Callable[[], tuple[Tensor, ...]]:
    """The value, and its gradients where inputs ask for them."""
    wanted = [x for part in inputs for x in (part if isinstance(part, (list, tuple)) else [part])]
    wanted = [x for x in wanted if isinstance(x, Tensor) and x.requires_grad]

    def run() -> tuple[Tensor, ...]:
        value = call(*inputs)
        if not wanted:
            return (value,)
        total = value.sum() if value.dim() else value
        return value.detach(), *torch.autograd.grad(total, wanted)

    return run
