"""Where to tap a stage before its last activation, found by watching one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Softplus,
)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)

INPUT = "input of "
"""Start of the name of a tap on what a module reads; ``#2`` at its end is the second call in one run."""


class Seen(NamedTuple):
    """One call of a module while a network was watched, in order of completion.

    Attributes:
        name: the module's path.
        module: the module.
        out: what it gave; in-place operations may have changed it since.
        negative: whether any of it was below 0 when it was given.
    """

    name: str
    module: nn.Module
    out: Tensor
    negative: bool


def tap_before(seen: Sequence[Seen], stage: str) -> str:
    """Name of the tap on a stage before its last activation; empty where it cannot be told.

    A stage that gives what an activation module gave is tapped at the input of that activation. Otherwise,
    where the next module after the stage (normalisation aside) is an activation, as in pre-activated
    networks, at the input of that. Otherwise the stage itself, if it gives negative numbers: then nothing has
    rectified it. What remains is an activation that is no module, and cannot be looked before.

    Args:
        seen: all calls of one run.
        stage: the stage's path.
    """
    last = max(i for i, call in enumerate(seen) if call.name == stage)
    given = seen[last].out
    for i in range(last, -1, -1):
        if seen[i].out is not given:
            break
        if isinstance(seen[i].module, ACTIVATIONS):
            return _input(seen, i)
    for i in range(last + 1, len(seen)):
        call = seen[i]
        if isinstance(call.module, ACTIVATIONS) and call.out.shape == given.shape:
            return _input(seen, i)
        if call.out is not given and not isinstance(call.module, NORMS):
            break
    return stage if seen[last].negative else ""


def split(name: str) -> tuple[str, int]:
    """Path and call number of a tap on an input.

    Example:
        >>> split("input of layer1.0.relu#2"), split("input of relu")
        (('layer1.0.relu', 2), ('relu', 1))
    """
    path, _, call = name.removeprefix(INPUT).partition("#")
    return path, int(call) if call.isdigit() else 1


def _input(seen: Sequence[Seen], position: int) -> str:
    name = seen[position].name
    call = sum(other.name == name for other in seen[: position + 1])
    return f"{INPUT}{name}" + (f"#{call}" if call > 1 else "")
