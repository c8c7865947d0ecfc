"""How far generated images are from what a network's batch normalisations remember of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelError
from ..shapes import Value, Vectors


class Normalised:
    """What the batch normalisations of one forward pass read."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Tensor, Tensor, Tensor]] = []

    def loss(self) -> Value:
        """``sum over layers of ||mean - running mean||_2 + ||var - running var||_2``, variances biased.

        Means and variances are over all but the channels, of the INPUT of each layer; the norms are not squared.
        """
        parts = []
        for u, mean, var in self.inputs:
            dims = [d for d in range(u.dim()) if d != 1]
            u = u.float() if u.dtype.itemsize < 4 else u
            first = u.mean(dims)
            second = (u - first.reshape(1, -1, *[1] * (u.dim() - 2))).square().mean(dims)
            parts += [torch.linalg.vector_norm(first - mean), torch.linalg.vector_norm(second - var)]
        return torch.stack(parts).sum()

    def means(self) -> Vectors:
        """Spatial means of all inputs side by side ``(N, sum of channels)``: CMI's features."""
        return torch.cat(
            [u.float().flatten(2).mean(2) if u.dim() > 2 else u.float() for u, _, _ in self.inputs], 1
        )


class BatchStatistics:
    """Watches the batch normalisations of a frozen network.

    Hooks live only while ``record`` is open, and keep nothing while gradients are off, so a student's phase costs
    and changes nothing. The loss differentiates the images.

    Args:
        model: a network in evaluation mode.

    Raises:
        ModelError: it has no batch normalisation that keeps running statistics, or is in training mode.

    Source: Yin et al., CVPR 2020 (DeepInversion), arXiv:1912.08795; scale as in CPSC-DFKD and CMI.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm2d(1)).eval()
        >>> images = torch.tensor([[[[1.0, -1.0]]]], requires_grad=True)
        >>> with BatchStatistics(net).record() as seen:
        ...     _ = net(images)
        >>> seen.loss()
        tensor(0., grad_fn=<SumBackward0>)
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        if not self.layers:
            raise ModelError(
                f"{type(model).__name__} has no batch normalisation whose statistics images could be compared with",
                expected="BatchNorm layers with running statistics, for the terms bn and contrast",
                fix="set data_free.generator_terms.bn=0 (and contrast=0), or take a teacher that has them",
            )
        self._ready()

    def _ready(self) -> None:
        if any(layer.training for layer in self.layers):
            raise ModelError(
                "the teacher is in training mode, so generated images would change its statistics",
                fix="call eval() on it",
            )

    @contextmanager
    def record(self) -> Iterator[Normalised]:
        """What the layers read while the context is open."""
        self._ready()
        found = Normalised()

        def keep(layer: nn.Module, given: Any) -> None:
            if torch.is_grad_enabled():
                found.inputs.append((given[0], layer.running_mean, layer.running_var))  # type: ignore[arg-type]

        with ExitStack() as stack:
            for layer in self.layers:
                stack.callback(layer.register_forward_pre_hook(keep).remove)
            yield found
