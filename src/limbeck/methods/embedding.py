"""What methods on one embedding of each network share."""

from __future__ import annotations

from torch import Tensor, nn

from ..connectors import Shape, as_vector, width
from ..errors import ConfigError
from ..signals import Signals
from ..taps import Layout
from .layers import FeatureMethod, Pair, full


class EmbeddingMethod(FeatureMethod):
    """A method that compares one vector of each network: what the classifier reads, or the mean of a layer
    named by hand."""

    def one_pair(self, student: Layout, teacher: Layout | None) -> Pair:
        """The two layers.

        Raises:
            ConfigError: several layers were named.
            ModelError: a network has no embedding and no layer was named.
        """
        pairs = self.embeddings(student, teacher)
        if len(pairs) > 1:
            raise ConfigError(
                f"method {self.name!r} compares one layer of each network",
                got=", ".join(pair.student for pair in pairs),
                fix="name one in student_layers and one in teacher_layers",
            )
        return pairs[0]

    def vectors(self, student: Signals, teacher: Signals | None) -> tuple[Tensor, Tensor]:
        """Vectors ``(N, D)`` and ``(N, E)`` of the two networks."""
        ((s, t),) = self.features(student, teacher)
        return as_vector(s), as_vector(t)


class Projection(nn.Linear):
    """A linear layer on vectors, or on the means of maps or tokens, in float32 at least.

    Example:
        >>> import torch
        >>> Projection((4, 8, 8), 2)(torch.zeros(3, 4, 8, 8, dtype=torch.bfloat16)).shape
        torch.Size([3, 2])
    """

    def __init__(self, source: Shape, outputs: int) -> None:
        super().__init__(width(source), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, *source) -> (N, outputs)``."""
        return super().forward(as_vector(full(x)))
