"""T-Net: what a modality's feature would be, from the features that are there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

OutAct = Literal["none", "sigmoid"]


class TransformationNet(nn.Module):
    """A multilayer perceptron from the features of the modalities at hand to that of a missing one.

    Args:
        inputs: width of what is known.
        outputs: width of the missing feature.
        hidden: units of each hidden layer. Released with PKDOT: 256, 128, 256 of 512; with MT-PKDOT: 2048, 1024, 512,
            256, 512, 1024, 2048 without non-linearity, which is an affine map of rank 256.
        activation: ``relu``, or ``none``.
        out_act: ``none``, or ``sigmoid`` as released with PKDOT, which cannot reach features outside [0, 1].

    Example:
        >>> import torch
        >>> TransformationNet(3, 4)(torch.zeros(2, 3)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (256, 128, 256),
        activation: Literal["relu", "none"] = "relu",
        out_act: OutAct = "none",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise((inputs, *hidden)):
            layers += [nn.Linear(a, b), *([nn.ReLU()] if activation == "relu" else [])]
        layers.append(nn.Linear((inputs, *hidden)[-1], outputs))
        self.layers = nn.Sequential(*layers, *([nn.Sigmoid()] if out_act == "sigmoid" else []))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs) -> (N, outputs)``."""
        found: Tensor = self.layers(x)
        return found
