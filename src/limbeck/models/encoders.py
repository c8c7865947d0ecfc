"""What turns one modality into a feature: by the shape of the modality, or a network of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError


def encoder(
    shape: tuple[int, ...],
    width: int,
    hidden: Sequence[int],
    dropout: float,
    network: str | Mapping[str, Any] | None,
) -> nn.Module:
    """A network from ``(N, *shape)`` to ``(N, width)``.

    Vectors go through a perceptron (hidden layers with ReLU and dropout, then a linear layer and a ReLU), series
    ``(channels, length)`` through convolutions along time, images through the network of the table that is named.

    Args:
        shape: of the modality.
        width: of the feature.
        hidden: units, or channels, of the hidden layers.
        dropout: after each hidden layer.
        network: ``identity`` for a modality that is a feature already; the name of a network for images, or a mapping
            of ``name`` and ``options``.

    Raises:
        ModelError: nothing is known for this shape, or an identity of another width.

    Example:
        >>> import torch
        >>> encoder((5,), 3, (4,), 0.0, None)(torch.zeros(2, 5)).shape
        torch.Size([2, 3])
        >>> encoder((6, 50), 3, (4, 8), 0.0, None)(torch.zeros(2, 6, 50)).shape
        torch.Size([2, 3])
    """
    if network == "identity":
        if shape != (width,):
            raise ModelError(
                "a modality that is its own feature must have the network's width",
                got="x".join(map(str, shape)),
                expected=width,
                fix="set the option width, or take an encoder",
            )
        return nn.Identity()
    if network is None and len(shape) == 1:
        return _perceptron(shape[0], width, hidden, dropout)
    if network is None and len(shape) == 2:
        return _convolutions(shape[0], width, hidden, dropout)
    if len(shape) == 3:
        from . import build

        named: dict[str, Any] = dict(network) if isinstance(network, Mapping) else {"name": network or "cnn"}
        options = dict(named.get("options") or {})
        return build(
            str(named["name"]), classes=width, channels=shape[0], size=(shape[1], shape[2]), **options
        )
    raise ModelError(
        f"no encoder for a modality of shape {'x'.join(map(str, shape))}",
        got=network,
        expected="vectors, series (channels, length), or images with a network of limbeck models",
    )


def _perceptron(inputs: int, width: int, hidden: Sequence[int], dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in pairwise((inputs, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], width), nn.ReLU())


def _convolutions(channels: int, width: int, hidden: Sequence[int], dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in pairwise((channels, *hidden)):
        layers += [nn.Conv1d(a, b, 5, stride=2, padding=2), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, Mean(), nn.Linear((channels, *hidden)[-1], width), nn.ReLU())


class Mean(nn.Module):
    """The mean along time."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, L) -> (N, C)``."""
        return x.mean(2)
